// Which expert a row goes to: `runs` holds (first row, expert) for each run of rows, ascending from row 0.

@group(0) @binding(7) var<storage, read_write> runs: array<u32>;

// The expert of a row by the list of `count` runs from `at` on.
fn expert_of(row: u32, at: u32, count: u32) -> u32 {
    var low = 0u;
    var high = count;
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if runs[at + 2u * middle] <= row {
            low = middle;
        } else {
            high = middle;
        }
    }
    return runs[at + 2u * low + 1u];
}
