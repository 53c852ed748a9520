// Rows that ROW threads of a workgroup of 256 share; ROW is a power of two.

var<workgroup> row_cells: array<vec2<f32>, 256>;

fn fold_two(a: vec2<f32>, b: vec2<f32>, largest: bool) -> vec2<f32> {
    return select(a + b, max(a, b), largest);
}

// Two numbers of each thread, folded over the threads of a row by eights, always in the same order: each thread gets the
// result.
fn fold_row(thread: u32, value: vec2<f32>, largest: bool) -> vec2<f32> {
    let lane = thread % ROW;
    let first = thread - lane;
    // Whoever still reads the result of an earlier fold comes first.
    workgroupBarrier();
    row_cells[thread] = value;
    workgroupBarrier();
    var left = ROW;
    while left > 8u {
        left /= 8u;
        if lane < left {
            // Places below `left` are read by their own thread alone.
            var part = row_cells[thread];
            for (var k = 1u; k < 8u; k++) {
                part = fold_two(part, row_cells[thread + k * left], largest);
            }
            row_cells[thread] = part;
        }
        workgroupBarrier();
    }
    var total = row_cells[first];
    for (var k = 1u; k < left; k++) {
        total = fold_two(total, row_cells[first + k], largest);
    }
    return total;
}

fn row_sums(thread: u32, value: vec2<f32>) -> vec2<f32> {
    return fold_row(thread, value, false);
}

fn row_max(thread: u32, value: vec2<f32>) -> vec2<f32> {
    return fold_row(thread, value, true);
}
