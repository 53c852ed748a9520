// Cross-entropy over a vocabulary, the consistency term between two passes, and scores of targets. Logits are f32, their
// gradient has format G.

struct Args {
    za: u32,
    zb: u32,
    targets: u32,
    parts: u32,
    da: u32, // of scores: where probabilities are added
    db: u32,
    n: u32,
    width: u32, // of a row, in lanes
    inverse: f32, // 1 / tokens
    smoothing: f32,
    weight_a: f32, // of both passes' cross-entropies in the gradient
    weight_b: f32,
    both: u32, // whether the mean of both passes' cross-entropies is wanted instead of the first one's
    half: f32, // of the consistency term's weight
    through: f32, // the same, 0 where the other pass is taken as a constant
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> za: array<Lane>;
@group(0) @binding(1) var<storage, read_write> zb: array<Lane>;
@group(0) @binding(2) var<storage, read_write> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<GL>;
@group(0) @binding(5) var<storage, read_write> db: array<GL>;

const LEAST: f32 = -3.4028234e38;

fn first_pass(i: u32) -> Lane {
    return za[args.za / LANES + i];
}

fn second_pass(i: u32) -> Lane {
    return zb[args.zb / LANES + i];
}

// The largest value so far, and the sum of e^(z - largest) for each place of a lane.
struct Exponentials {
    most: f32,
    sum: Lane,
}

fn joined(so_far: Exponentials, z: Lane) -> Exponentials {
    let most = max(so_far.most, lane_max(z));
    return Exponentials(most, so_far.sum * exp(so_far.most - most) + exp(z - most));
}

fn value_of(z: Lane, place: u32) -> f32 {
    return lane_sum(select(Lane(), z, lane_is(place) > Lane()));
}

// parts of a row: smoothed cross-entropy (of the first pass or the mean of both), half the symmetric divergence, -log p of
// the target in the first pass. The gradient may be written over the logits.
@compute @workgroup_size(256)
fn vocab_loss(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = block_index(group, groups) * (256u / ROW) + thread / ROW;
    let lane = thread % ROW;
    let at = row * args.width;
    let live = row < args.n;
    var target_lane = 0u;
    var target_place = 0u;
    var a = Exponentials(LEAST, Lane());
    var b = Exponentials(LEAST, Lane());
    var hit = vec2<f32>();
    var total_a = Lane();
    var total_b = Lane();
    if live {
        let token = targets[args.targets + row];
        target_lane = token / LANES;
        target_place = token % LANES;
        for (var c = lane; c < args.width; c += ROW) {
            let z = first_pass(at + c);
            a = joined(a, z);
            total_a += z;
            if c == target_lane {
                hit.x = value_of(z, target_place);
            }
            if TWO != 0u {
                let other = second_pass(at + c);
                b = joined(b, other);
                total_b += other;
                if c == target_lane {
                    hit.y = value_of(other, target_place);
                }
            }
        }
    }
    let most = row_max(thread, vec2<f32>(a.most, b.most));
    let sums = row_sums(thread, vec2<f32>(lane_sum(a.sum) * exp(a.most - most.x), lane_sum(b.sum) * exp(b.most - most.y)));
    let lse = most + log(sums);
    hit = row_sums(thread, hit);
    var entropy = lse - hit;
    if args.smoothing > 0.0 {
        let mean = row_sums(thread, vec2<f32>(lane_sum(total_a), lane_sum(total_b))) * args.inverse;
        entropy += args.smoothing * (hit - mean);
    }
    // The symmetric divergence, and that of the first pass from the second.
    var apart = vec2<f32>();
    if TWO != 0u {
        if live {
            var symmetric = Lane();
            var forward = Lane();
            for (var c = lane; c < args.width; c += ROW) {
                let x = first_pass(at + c) - lse.x;
                let y = second_pass(at + c) - lse.y;
                let p = exp(x);
                symmetric += (p - exp(y)) * (x - y);
                forward += p * (x - y);
            }
            apart = vec2<f32>(lane_sum(symmetric), lane_sum(forward));
        }
        apart = row_sums(thread, apart);
    }
    if !live {
        return;
    }
    if lane == 0u {
        let at_parts = args.parts + 3u * row;
        parts[at_parts] = select(entropy.x, 0.5 * (entropy.x + entropy.y), args.both != 0u);
        parts[at_parts + 1u] = 0.5 * apart.x;
        parts[at_parts + 2u] = lse.x - hit.x;
    }
    if GRADIENT == 0u {
        return;
    }
    let base = vec2<f32>(args.weight_a, args.weight_b) * args.smoothing * args.inverse;
    for (var c = lane; c < args.width; c += ROW) {
        var hot = Lane();
        if c == target_lane {
            hot = lane_is(target_place) * (1.0 - args.smoothing);
        }
        let x = first_pass(at + c) - lse.x;
        let p = exp(x);
        var d = args.weight_a * (p - hot) - base.x;
        if TWO != 0u {
            let y = second_pass(at + c) - lse.y;
            let q = exp(y);
            let between = args.half * (p - q);
            d += between + args.through * p * (x - y - apart.y);
            let e = args.weight_b * (q - hot) - base.y - between + args.through * q * (y - x - (apart.x - apart.y));
            if IN_PLACE != 0u {
                zb[args.zb / LANES + at + c] = e;
            } else {
                db[args.db / LANES + at + c] = GL(e);
            }
        }
        if IN_PLACE != 0u {
            za[args.za / LANES + at + c] = d;
        } else {
            da[args.da / LANES + at + c] = GL(d);
        }
    }
}

// parts of a row: log p of the target, and the first of the likeliest tokens; probabilities are added at da. Without targets
// only the largest value's place is looked for.
@compute @workgroup_size(256)
fn vocab_score(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = block_index(group, groups) * (256u / ROW) + thread / ROW;
    let lane = thread % ROW;
    let at = row * args.width;
    let live = row < args.n;
    var so_far = Exponentials(LEAST, Lane());
    var place = 0.0;
    var hit = 0.0;
    if live {
        var token = 0u;
        if TARGETS != 0u {
            token = targets[args.targets + row];
        }
        for (var c = lane; c < args.width; c += ROW) {
            let z = first_pass(at + c);
            let largest = lane_max(z);
            if largest > so_far.most {
                // Whole numbers up to 2^24 are exact.
                place = f32(c * LANES + lane_place(z, largest));
            }
            if TARGETS != 0u {
                so_far = joined(so_far, z);
                if c == token / LANES {
                    hit = value_of(z, token % LANES);
                }
            } else {
                so_far.most = max(so_far.most, largest);
            }
        }
    }
    let most = row_max(thread, vec2<f32>(so_far.most, 0.0)).x;
    place = -row_max(thread, vec2<f32>(select(LEAST, -place, so_far.most == most), 0.0)).x;
    var lse = 0.0;
    if TARGETS != 0u {
        let sums = row_sums(thread, vec2<f32>(lane_sum(so_far.sum) * exp(so_far.most - most), hit));
        lse = most + log(sums.x);
        hit = sums.y;
    }
    if !live {
        return;
    }
    if lane == 0u {
        parts[args.parts + 2u * row] = hit - lse;
        parts[args.parts + 2u * row + 1u] = place;
    }
    if MIXED != 0u {
        for (var c = lane; c < args.width; c += ROW) {
            da[args.da / LANES + at + c] += GL(exp(first_pass(at + c) - lse));
        }
    }
}
