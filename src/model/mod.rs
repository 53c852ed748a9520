//! Model families built from layers and mixtures; loading of weights; heads.
