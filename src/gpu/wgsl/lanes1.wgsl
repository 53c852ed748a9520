// Kernels that take one value at a time.

const LANES: u32 = 1u;
alias Lane = f32;

fn lane_sum(v: Lane) -> f32 {
    return v;
}

fn lane_max(v: Lane) -> f32 {
    return v;
}

// What the value of this number is multiplied with by a dropout.
fn drop_lane(i: u32, key: u32, threshold: u32, scale: f32) -> Lane {
    return drop_factor(i, key, threshold, scale);
}

// 1 where the lane's value has this place among the lane's values, else 0.
fn lane_is(place: u32) -> Lane {
    return select(0.0, 1.0, place == 0u);
}

// The first place of a value in a lane that holds it.
fn lane_place(v: Lane, value: f32) -> u32 {
    return 0u;
}
