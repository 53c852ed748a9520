
// What one of a team's threads adds up of a product of few rows with packed blocks: the units of sixteen values of each of two
// columns of out, of every TEAM. b0, b1: where the columns' rows of b start.

fn load_x(row: u32, places: vec4<u32>) -> mat4x4<f32> {
    let first = min(row, args.m - 1u) * args.a_row;
    return mat4x4<f32>(
        vec4<f32>(load_a(first + places.x, left(args.k, places.x))),
        vec4<f32>(load_a(first + places.y, left(args.k, places.y))),
        vec4<f32>(load_a(first + places.z, left(args.k, places.z))),
        vec4<f32>(load_a(first + places.w, left(args.k, places.w))),
    );
}

fn dot_all(x: mat4x4<f32>, w: mat4x4<f32>) -> f32 {
    return (dot(x[0], w[0]) + dot(x[1], w[1])) + (dot(x[2], w[2]) + dot(x[3], w[3]));
}

fn few_sums(lane: u32, b0: u32, b1: u32) -> FewSums {
    var sums = FewSums();
    for (var u = lane; 16u * u < args.k; u += TEAM) {
        let have = args.k - 16u * u;
        let places = unit_places(u);
        let w0 = unit(b0, u, have);
        let w1 = unit(b1, u, have);
        let x0 = load_x(0u, places);
        sums.low0.x += dot_all(x0, w0);
        sums.low1.x += dot_all(x0, w1);
        if M > 1u {
            let x1 = load_x(1u, places);
            sums.low0.y += dot_all(x1, w0);
            sums.low1.y += dot_all(x1, w1);
        }
        if M > 2u {
            let x2 = load_x(2u, places);
            sums.low0.z += dot_all(x2, w0);
            sums.low1.z += dot_all(x2, w1);
            let x3 = load_x(3u, places);
            sums.low0.w += dot_all(x3, w0);
            sums.low1.w += dot_all(x3, w1);
        }
        if M > 4u {
            let x4 = load_x(4u, places);
            sums.high0.x += dot_all(x4, w0);
            sums.high1.x += dot_all(x4, w1);
            let x5 = load_x(5u, places);
            sums.high0.y += dot_all(x5, w0);
            sums.high1.y += dot_all(x5, w1);
            let x6 = load_x(6u, places);
            sums.high0.z += dot_all(x6, w0);
            sums.high1.z += dot_all(x6, w1);
            let x7 = load_x(7u, places);
            sums.high0.w += dot_all(x7, w0);
            sums.high1.w += dot_all(x7, w1);
        }
    }
    return sums;
}
