// Kernels that take four values at a time.

const LANES: u32 = 4u;
alias Lane = vec4<f32>;

fn lane_sum(v: Lane) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn lane_max(v: Lane) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// What the values from this number on are multiplied with by a dropout.
fn drop_lane(i: u32, key: u32, threshold: u32, scale: f32) -> Lane {
    return vec4<f32>(
        drop_factor(i, key, threshold, scale),
        drop_factor(i + 1u, key, threshold, scale),
        drop_factor(i + 2u, key, threshold, scale),
        drop_factor(i + 3u, key, threshold, scale),
    );
}

// 1 for the value of this place among the lane's values, 0 for the others.
fn lane_is(place: u32) -> Lane {
    return select(vec4<f32>(), vec4<f32>(1.0), vec4<u32>(place) == vec4<u32>(0u, 1u, 2u, 3u));
}

// The first place of a value in a lane that holds it.
fn lane_place(v: Lane, value: f32) -> u32 {
    return select(select(select(3u, 2u, v.z == value), 1u, v.y == value), 0u, v.x == value);
}
