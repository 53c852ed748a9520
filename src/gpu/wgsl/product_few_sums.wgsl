
// What one of a team's threads adds up of a product of few rows: four values in a row of each of two columns of out, of every
// 4 * TEAM. b0, b1: where the columns' rows of b start.
fn few_sums(lane: u32, b0: u32, b1: u32) -> FewSums {
    let most = args.m - 1u;
    var sums = FewSums();
    for (var k = 4u * lane; k < args.k; k += 4u * TEAM) {
        let have = args.k - k;
        let w0 = vec4<f32>(load_b(b0 + k, have));
        let w1 = vec4<f32>(load_b(b1 + k, have));
        let x0 = vec4<f32>(load_a(k, have));
        sums.low0.x += dot(x0, w0);
        sums.low1.x += dot(x0, w1);
        if M > 1u {
            let x1 = vec4<f32>(load_a(min(1u, most) * args.a_row + k, have));
            sums.low0.y += dot(x1, w0);
            sums.low1.y += dot(x1, w1);
        }
        if M > 2u {
            let x2 = vec4<f32>(load_a(min(2u, most) * args.a_row + k, have));
            let x3 = vec4<f32>(load_a(min(3u, most) * args.a_row + k, have));
            sums.low0.z += dot(x2, w0);
            sums.low1.z += dot(x2, w1);
            sums.low0.w += dot(x3, w0);
            sums.low1.w += dot(x3, w1);
        }
        if M > 4u {
            let x4 = vec4<f32>(load_a(min(4u, most) * args.a_row + k, have));
            let x5 = vec4<f32>(load_a(min(5u, most) * args.a_row + k, have));
            let x6 = vec4<f32>(load_a(min(6u, most) * args.a_row + k, have));
            let x7 = vec4<f32>(load_a(min(7u, most) * args.a_row + k, have));
            sums.high0 += vec4<f32>(dot(x4, w0), dot(x5, w0), dot(x6, w0), dot(x7, w0));
            sums.high1 += vec4<f32>(dot(x4, w1), dot(x5, w1), dot(x6, w1), dot(x7, w1));
        }
    }
    return sums;
}
