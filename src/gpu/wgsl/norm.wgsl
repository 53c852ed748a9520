// Normalisation of rows: by mean and variance, or (RMS) by the root of the mean square; with the residual add and the
// dropout in front of it. Formats: x or dx X, residual or what is added to the gradient R, y or dy Y, what the backward pass
// reads K, the sum or its gradient S; the others f32.

struct Args {
    x: u32,
    residual: u32,
    gamma: u32,
    beta: u32,
    y: u32,
    kept: u32,
    rstd: u32,
    sum: u32,
    n: u32,
    width: u32, // of a row, in lanes
    key: u32,
    threshold: u32,
    scale: f32,
    inverse: f32, // 1 / values of a row
    eps: f32,
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> x: array<XL>;
@group(0) @binding(1) var<storage, read_write> residual: array<RL>;
@group(0) @binding(2) var<storage, read_write> gamma: array<Lane>;
@group(0) @binding(3) var<storage, read_write> beta: array<Lane>;
@group(0) @binding(4) var<storage, read_write> y: array<YL>;
@group(0) @binding(5) var<storage, read_write> kept: array<KL>;
@group(0) @binding(6) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(7) var<storage, read_write> sum: array<SL>;

fn dropped(i: u32) -> Lane {
    return drop_lane(i * LANES, args.key, args.threshold, args.scale);
}

// dropout(x) + residual, as the sum is stored
fn summed(i: u32) -> Lane {
    var v = Lane(x[args.x / LANES + i]);
    if args.threshold > 0u {
        v *= dropped(i);
    }
    if HAS_RESIDUAL != 0u {
        v += Lane(residual[args.residual / LANES + i]);
    }
    if HAS_SUM != 0u {
        v = Lane(SL(v));
    }
    return v;
}

fn summed_again(i: u32) -> Lane {
    if HAS_SUM != 0u {
        return Lane(sum[args.sum / LANES + i]);
    }
    return summed(i);
}

// Lanes of a row that each thread has: a constant, HELD, where it can hold them.
fn lanes_of_thread() -> u32 {
    return select(HELD, (args.width + ROW - 1u) / ROW, STREAM != 0u);
}

// s = dropout(x) + residual -> sum; y = gamma (s - mean) rstd + beta; what is kept: the normalised values, or (RMS) s
@compute @workgroup_size(256)
fn norm_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = block_index(group, groups) * (256u / ROW) + thread / ROW;
    let lane = thread % ROW;
    let at = row * args.width;
    let count = lanes_of_thread();
    let live = row < args.n;
    var held: array<Lane, HELD>;
    var part = Lane();
    if live {
        for (var k = 0u; k < count; k++) {
            let c = k * ROW + lane;
            if c < args.width {
                let v = summed(at + c);
                if HAS_SUM != 0u {
                    sum[args.sum / LANES + at + c] = SL(v);
                }
                if STREAM == 0u {
                    held[k] = v;
                }
                if RMS != 0u {
                    part += v * v;
                } else {
                    part += v;
                }
            }
        }
    }
    var spread = row_sums(thread, vec2<f32>(lane_sum(part), 0.0)).x * args.inverse;
    var mean = 0.0;
    if RMS == 0u {
        mean = spread;
        part = Lane();
        if live {
            for (var k = 0u; k < count; k++) {
                let c = k * ROW + lane;
                if c < args.width {
                    var v: Lane;
                    if STREAM == 0u {
                        v = held[k] - mean;
                    } else {
                        v = summed_again(at + c) - mean;
                    }
                    part += v * v;
                }
            }
        }
        spread = row_sums(thread, vec2<f32>(lane_sum(part), 0.0)).x * args.inverse;
    }
    let r = 1.0 / sqrt(spread + args.eps);
    if !live {
        return;
    }
    if lane == 0u {
        rstd[args.rstd + row] = r;
    }
    for (var k = 0u; k < count; k++) {
        let c = k * ROW + lane;
        if c < args.width {
            var v: Lane;
            if STREAM == 0u {
                v = held[k];
            } else {
                v = summed_again(at + c);
            }
            let normalized = (v - mean) * r;
            if HAS_KEPT != 0u {
                if RMS != 0u {
                    kept[args.kept / LANES + at + c] = KL(v);
                } else {
                    kept[args.kept / LANES + at + c] = KL(normalized);
                }
            }
            var out = normalized * gamma[args.gamma / LANES + c];
            if HAS_BETA != 0u {
                out += beta[args.beta / LANES + c];
            }
            y[args.y / LANES + at + c] = YL(out);
        }
    }
}

// What was normalised: the kept values, times 1/rms where they are the sum
fn normalized_at(i: u32, r: f32) -> Lane {
    let v = Lane(kept[args.kept / LANES + i]);
    if RMS != 0u {
        return v * r;
    }
    return v;
}

// The gradient of the sum from that of y, and what is at `residual` added -> sum; with the dropout's mask -> x
@compute @workgroup_size(256)
fn norm_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = block_index(group, groups) * (256u / ROW) + thread / ROW;
    let lane = thread % ROW;
    let at = row * args.width;
    let count = lanes_of_thread();
    let live = row < args.n;
    var scaled: array<Lane, HELD>;
    var normalized: array<Lane, HELD>;
    var plain = Lane();
    var along = Lane();
    var r = 0.0;
    if live {
        r = rstd[args.rstd + row];
        for (var k = 0u; k < count; k++) {
            let c = k * ROW + lane;
            if c < args.width {
                let v = Lane(y[args.y / LANES + at + c]) * gamma[args.gamma / LANES + c];
                let h = normalized_at(at + c, r);
                if STREAM == 0u {
                    scaled[k] = v;
                    normalized[k] = h;
                }
                plain += v;
                along += v * h;
            }
        }
    }
    var means = row_sums(thread, vec2<f32>(lane_sum(plain), lane_sum(along))) * args.inverse;
    if RMS != 0u {
        means.x = 0.0;
    }
    if !live {
        return;
    }
    for (var k = 0u; k < count; k++) {
        let c = k * ROW + lane;
        if c < args.width {
            var v: Lane;
            var h: Lane;
            if STREAM == 0u {
                v = scaled[k];
                h = normalized[k];
            } else {
                v = Lane(y[args.y / LANES + at + c]) * gamma[args.gamma / LANES + c];
                h = normalized_at(at + c, r);
            }
            v = (v - means.x - h * means.y) * r;
            if HAS_RESIDUAL != 0u {
                v += Lane(residual[args.residual / LANES + at + c]);
            }
            if HAS_SUM != 0u {
                sum[args.sum / LANES + at + c] = SL(v);
            }
            if HAS_X != 0u {
                if args.threshold > 0u {
                    v *= dropped(at + c);
                }
                x[args.x / LANES + at + c] = XL(v);
            }
        }
    }
}

// y = gamma normalised + beta, once more
@compute @workgroup_size(256)
fn norm_output(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = block_index(group, groups) * (256u / ROW) + thread / ROW;
    if row >= args.n {
        return;
    }
    let at = row * args.width;
    var r = 1.0;
    if RMS != 0u {
        r = rstd[args.rstd + row];
    }
    for (var c = thread % ROW; c < args.width; c += ROW) {
        var v = normalized_at(at + c, r) * gamma[args.gamma / LANES + c];
        if HAS_BETA != 0u {
            v += beta[args.beta / LANES + c];
        }
        y[args.y / LANES + at + c] = YL(v);
    }
}
