// Sums over rows and over everything, in a fixed order. Formats: what is summed X, what it is multiplied with H; the others
// f32.

struct Args {
    x: u32,
    factor: u32,
    row_factor: u32,
    products: u32,
    sums: u32,
    n: u32,
    width: u32, // of a row, in lanes; of `total`: values of a workgroup
    chunk: u32, // rows of a workgroup
    scale: f32,
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> x: array<XL>;
@group(0) @binding(1) var<storage, read_write> factor: array<HL>;
@group(0) @binding(2) var<storage, read_write> row_factor: array<f32>;
@group(0) @binding(3) var<storage, read_write> products: array<Lane>;
@group(0) @binding(4) var<storage, read_write> sums: array<Lane>;

var<workgroup> cells: array<Lane, 256>;

// The sum over the threads that have the same column; the first of them have the result.
fn sum_rows(thread: u32, value: Lane) -> Lane {
    workgroupBarrier();
    cells[thread] = value;
    workgroupBarrier();
    for (var half = 128u; half >= COLUMNS; half /= 2u) {
        if thread < half {
            cells[thread] += cells[thread + half];
        }
        workgroupBarrier();
    }
    return cells[thread];
}

// Of each chunk of rows: products = sum of x * factor * row_factor, sums = sum of x. A workgroup has COLUMNS lanes of a chunk.
@compute @workgroup_size(256)
fn columns(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let c = group.x * COLUMNS + thread % COLUMNS;
    let start = group.y * args.chunk;
    let end = min(args.n, start + args.chunk);
    var product = Lane();
    var sum = Lane();
    if c < args.width {
        for (var row = start + thread / COLUMNS; row < end; row += 256u / COLUMNS) {
            let v = Lane(x[args.x / LANES + row * args.width + c]);
            if HAS_SUMS != 0u {
                sum += v;
            }
            if HAS_PRODUCTS != 0u {
                var f = Lane(factor[args.factor / LANES + row * args.width + c]);
                if HAS_ROW_FACTOR != 0u {
                    f *= row_factor[args.row_factor + row];
                }
                product += v * f;
            }
        }
    }
    let first = thread < COLUMNS && c < args.width;
    if HAS_SUMS != 0u {
        let total = sum_rows(thread, sum) * args.scale;
        if first {
            sums[args.sums / LANES + group.y * args.width + c] = total;
        }
    }
    if HAS_PRODUCTS != 0u {
        let total = sum_rows(thread, product) * args.scale;
        if first {
            products[args.products / LANES + group.y * args.width + c] = total;
        }
    }
}
