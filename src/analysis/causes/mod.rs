//! What a random draw causes, from what a run recorded or from losses of single rows; each beside what chance alone gives.
//!
//! | what | question | chance |
//! |---|---|---|
//! | [`disagreement`] | how much further apart are two passes for each layer in which they drew differently? | standard errors |
//! | [`consensus`](fn@consensus::consensus) | have the experts of a module become one? | `1/sqrt(M)`: strangers |
//! | [`additive`] | is the loss along a route the sum of one number for each draw? | corrected for the number of effects |
//! | [`pins`] | does it matter which expert runs in a layer? | shuffled experts |
//! | [`route_share`] | was it the route or the batch? | the spread over batches |
//! | [`worth`] | what does each expert add to the merged model, and are two of them one? | shuffled experts |

pub mod additive;
pub mod consensus;
pub mod disagreement;
pub mod least_squares;
pub mod pins;
pub mod route_share;
pub mod worth;
