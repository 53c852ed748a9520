//! Numbers for the inspector: similarity, distances, histograms.
