
// Where a workgroup's tile lies. Workgroups that run at the same time share rows of a and b in the cache when they form a
// block, so eight rows of tiles are done together.
fn corner_of(group: vec3<u32>, groups: vec3<u32>) -> vec2<u32> {
    let number = group.y * groups.x + group.x;
    let band = number / (8u * groups.x);
    let height = min(8u, groups.y - 8u * band);
    let inside = number - 8u * band * groups.x;
    return vec2<u32>(inside / height * TN, (8u * band + inside % height) * TM);
}
