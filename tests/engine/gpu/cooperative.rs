//! Products with cooperative matrices against sums in double precision, where the adapter has them, and the test by which they
//! are chosen. `tests/gpu/cooperative.sh` runs these on a driver that has them.

use super::product::{Case, FORMS};
use super::support::device;
use adamix::error::Result;
use adamix::gpu::kernels::cooperative::{self, Found};
use adamix::gpu::kernels::product::{Cooperative, CooperativeTile, CooperativeUnit, Form, Product, ProductPlan, Tile};
use adamix::gpu::kernels::tuning;
use adamix::gpu::{AdapterKind, Address, Backend, Buffer, Constant, Counters, Facts, Format, Launch, Memory, Operand};
use std::sync::{Arc, OnceLock};

/// What the adapter of the tests can do; `None`, said aloud, where there is none or it has no such matrices.
fn units() -> Option<(Arc<dyn Backend>, Vec<CooperativeUnit>)> {
    static FOUND: OnceLock<Option<Found>> = OnceLock::new();
    let device = device();
    let found = FOUND.get_or_init(|| device.as_deref().map(|device| cooperative::find(device).unwrap()));
    let Found { cooperative, reasons } = found.clone().unwrap_or_default();
    if let (Some(device), Some(Cooperative { units })) = (device, cooperative) {
        return Some((device, units));
    }
    assert!(
        std::env::var_os("ADAMIX_TEST_COOPERATIVE").is_none(),
        "cooperative matrices were asked for by ADAMIX_TEST_COOPERATIVE: {reasons:?}"
    );
    eprintln!("products with cooperative matrices are NOT tested: {reasons:?}");
    None
}

/// A case in the unit's format with results in `out`.
fn case(unit: &CooperativeUnit, form: Form, shape: [usize; 3], out: Format, spare: [usize; 2]) -> Case {
    Case { tolerance: 3e-5, ..Case::new(form, shape, [unit.operands, unit.operands, out], spare) }
}

/// Runs a case by a unit and compares. -> its launches
#[track_caller]
fn check(device: &dyn Backend, unit: &CooperativeUnit, case: &Case) -> Vec<Launch> {
    let launches = case.check(device, &cooperative::plan(device, *unit));
    assert_eq!(launches[0].entry, "cooperative", "{case:?}");
    launches
}

fn tiny(unit: &CooperativeUnit) -> CooperativeUnit {
    CooperativeUnit { tile: CooperativeTile { subgroups: [1, 2], matrices: [2, 1], depth: 2 }, ..*unit }
}

#[test]
fn forms_and_formats_with_tails_and_windows() {
    let Some((device, units)) = units() else { return };
    for unit in &units {
        eprintln!("{unit:?} of {:?}", device.facts().cooperative_matrices);
        let unit = &tiny(unit);
        let [m, n, k] = unit.shape();
        for form in FORMS {
            for out in [Format::F32, unit.operands] {
                let launches = check(&*device, unit, &case(unit, form, [m + 1, n + 5, 2 * k + 3], out, [1, 3]));
                assert_eq!(launches[0].grid, [2, 2, 1]);
                check(&*device, unit, &case(unit, form, [2 * m, n + 4, k + 4], out, [8, 4]));
                check(&*device, unit, &case(unit, form, [16, 16, 16], out, [0, 0]));
                check(&*device, unit, &case(unit, form, [2 * m - 3, n, 2 * k - 1], out, [0, 0]));
            }
        }
    }
}

#[test]
fn tiles() {
    let Some((device, units)) = units() else { return };
    for unit in &units {
        for (i, &tile) in CooperativeTile::CANDIDATES.iter().enumerate() {
            let unit = CooperativeUnit { tile, ..*unit };
            let [m, n, k] = unit.shape();
            if cooperative::fits(&*device, &unit) {
                check(
                    &*device,
                    &unit,
                    &case(&unit, FORMS[i % 3], [m + 4, n + 3, k + 2], Format::F32, [4, 4 * (i % 2)]),
                );
            }
        }
    }
}

#[test]
fn any_number_of_subgroups() {
    let Some((device, units)) = units() else { return };
    for unit in &units {
        // Told that subgroups have fewer threads than they have, the kernel gets fewer subgroups than shares of its tile;
        // told that they have more, it gets more.
        let tile = CooperativeTile { subgroups: [2, 2], matrices: [1, 2], depth: 2 };
        for threads in [unit.threads / 4, unit.threads / 2, 2 * unit.threads] {
            let unit = CooperativeUnit { threads, tile, ..*unit };
            let [m, n, k] = unit.shape();
            check(&*device, &unit, &case(&unit, Form::Nt, [m + 2, n + 1, k + 2], Format::F32, [0, 0]));
        }
    }
}

#[test]
fn what_follows_the_sums() {
    let Some((device, units)) = units() else { return };
    for unit in &units {
        let (unit, x) = (&tiny(unit), Format::F32);
        let case = |form, shape, out| Case { scale: 0.5, ..case(unit, form, shape, out, [4, 4]) };
        check(&*device, unit, &Case { bias: true, act: Some(0), ..case(Form::Nt, [35, 36, 24], x) });
        check(&*device, unit, &Case { bias: true, act: Some(0), ..case(Form::Nt, [17, 37, 19], unit.operands) });
        check(&*device, unit, &Case { bias: true, add: 1, ..case(Form::Nt, [35, 36, 24], unit.operands) });
        check(&*device, unit, &Case { slope: Some(3), add: 2, ..case(Form::Nn, [35, 37, 19], unit.operands) });
        let all = Case { bias: true, slope: Some(4), add: 1, act: Some(1), ..case(Form::Tn, [33, 20, 16], x) };
        check(&*device, unit, &all);
    }
}

#[test]
fn low_rank_terms_of_several_experts() {
    let Some((device, units)) = units() else { return };
    for unit in &units {
        let unit = &tiny(unit);
        let low = |form, shape, rank| Case { rank, scale: 2.0, ..case(unit, form, shape, Format::F32, [0, 0]) };
        check(&*device, unit, &low(Form::Nt, [70, 100, 16], 4));
        check(&*device, unit, &low(Form::Nt, [33, 49, 17], 18));
        check(&*device, unit, &Case { bias: true, act: Some(2), ..low(Form::Nn, [20, 60, 16], 4) });
        // More operands than a kernel has.
        let many = Case { bias: true, slope: Some(2), add: 1, ..low(Form::Nn, [19, 40, 16], 4) };
        assert_eq!(check(&*device, unit, &many).len(), 2);
    }
}

#[test]
fn long_sums_in_slices() {
    let Some((device, units)) = units() else { return };
    for unit in &units {
        let plan = ProductPlan { rate: 4e13, ..cooperative::plan(&*device, tiny(unit)) };
        let long = case(unit, Form::Tn, [36, 36, 530], Format::F32, [0, 0]);
        let launches = Case { split: true, scale: 0.5, add: 2, ..long }.check(&*device, &plan);
        assert_eq!(launches.iter().map(|launch| launch.entry).collect::<Vec<_>>(), ["cooperative", "combine"]);
        assert!(launches[0].grid[2] > 1);
    }
}

#[test]
fn the_fastest_tile_is_measured() {
    let Some((device, units)) = units() else { return };
    let tested = Cooperative { units };
    let tiles = [CooperativeTile::SMALL];
    // Which is faster is not known here, but what is found is of what there is.
    let found = tuning::measure_units(&*device, &tested, &tiles, Tile::SMALL, 48, 0.01).unwrap();
    for unit in found.iter().flat_map(|found| &found.units) {
        assert!(
            unit.tile == CooperativeTile::SMALL && tested.units.iter().any(|known| known.operands == unit.operands)
        );
    }
    if device.facts().kind == AdapterKind::Software {
        assert_eq!(tuning::measure_cooperative(&*device, &tested, Tile::SMALL, 100.0).unwrap(), None);
    }
}

/// The plan and the unit that the test of results is tested with: the adapter's, or the plain kernels where it has none.
fn tested(device: &dyn Backend) -> (ProductPlan, CooperativeUnit) {
    if let Some((_, units)) = units() {
        return (cooperative::plan(device, units[0]), units[0]);
    }
    let unit = CooperativeUnit { operands: Format::F32, size: 8, threads: 32, tile: CooperativeTile::SMALL };
    (ProductPlan { tile: Tile::SMALL, fit: false, ..ProductPlan::of(device.facts()) }, unit)
}

#[test]
fn the_test_of_results_tells_right_from_wrong() {
    let Some(device) = device() else { return };
    let (plan, unit) = tested(&*device);
    assert_eq!(cooperative::self_test(&*device, &plan, unit).unwrap(), None);
    let changes: [fn(&mut Launch); 4] = [
        // The sums without their last term; the last row left out.
        |launch| launch.words[2] -= 1,
        |launch| launch.words[0] -= 1,
        // Operands in the other order; a transposed one.
        |launch| launch.operands.swap(0, 1),
        |launch| {
            let rows = launch.constants.iter_mut().find(|(name, _)| *name == "A_ROWS").unwrap();
            rows.1 = if rows.1 == Constant::Number(1) { 0u32.into() } else { 1u32.into() };
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let problem = cooperative::self_test(&Wrong { device: device.clone(), change }, &plan, unit).unwrap();
        assert!(problem.is_some_and(|text| text.contains("wrongly")), "change {i} of the launches went unseen");
    }
}

#[test]
fn what_is_found_wrong_is_not_used() {
    let Some((device, _)) = units() else { return };
    let found = cooperative::find(&Wrong { device: device.clone(), change: |launch| launch.words[2] -= 1 }).unwrap();
    assert_eq!((found.cooperative, found.reasons.len()), (None, device.facts().cooperative_matrices.len()));
    // A kernel that does not compile.
    let broken = |launch: &mut Launch| launch.constants.retain(|(name, _)| *name != "FM");
    let found = cooperative::find(&Wrong { device: device.clone(), change: broken }).unwrap();
    assert!(found.cooperative.is_none() && found.reasons[0].contains("compiling"), "{:?}", found.reasons);
    assert_eq!(device.failure(), None);
}

#[test]
fn small_and_other_products_keep_their_kernels() {
    let unit = |operands| CooperativeUnit { operands, size: 16, threads: 32, tile: CooperativeTile::CANDIDATES[0] };
    let units = vec![unit(Format::F16)];
    let plan = ProductPlan {
        tile: Tile::LARGE,
        fit: true,
        max_binding: 1 << 30,
        rate: 5e12,
        budget: 1.0,
        cooperative: Some(Cooperative { units }),
    };
    let entry = |form, shape, [a, b]: [Format; 2]| {
        let on = |format| Operand::new(Address::new(0, 0), 1 << 24, format);
        Product::new(form, shape, on(a), on(b), on(Format::F32)).launches(&plan)[0].entry
    };
    let (x, y) = (Format::F32, Format::F16);
    assert_eq!(entry(Form::Nt, [512, 512, 512], [y, y]), "cooperative");
    assert_eq!(entry(Form::Tn, [512, 512, 512], [y, y]), "cooperative");
    for formats in [[x, x], [x, y], [y, x]] {
        assert_eq!(entry(Form::Nt, [512, 512, 512], formats), "product");
    }
    assert_eq!(entry(Form::Nt, [8, 512, 512], [y, y]), "few");
    for shape in [[8, 512, 512], [512, 8, 512], [512, 512, 8]] {
        assert_eq!(entry(Form::Nn, shape, [y, y]), "product");
    }
}

/// A device whose launches of products are changed.
#[derive(Debug)]
struct Wrong {
    device: Arc<dyn Backend>,
    change: fn(&mut Launch),
}

impl Backend for Wrong {
    fn facts(&self) -> &Facts {
        self.device.facts()
    }
    fn allocate(&self, bytes: u64) -> Result<Buffer> {
        self.device.allocate(bytes)
    }
    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.device.upload(to, bytes)
    }
    fn clear(&self, at: Address, bytes: u64) -> Result<()> {
        self.device.clear(at, bytes)
    }
    fn download(&self, parts: &[(Address, u64)]) -> Result<Vec<Vec<u8>>> {
        self.device.download(parts)
    }
    fn launch(&self, launch: &Launch) -> Result<()> {
        let mut launch = launch.clone();
        if ["product", "cooperative"].contains(&launch.entry) {
            (self.change)(&mut launch);
        }
        self.device.launch(&launch)
    }
    fn wait(&self) -> Result<()> {
        self.device.wait()
    }
    fn memory(&self) -> Memory {
        self.device.memory()
    }
    fn counters(&self) -> Counters {
        self.device.counters()
    }
    fn failure(&self) -> Option<String> {
        self.device.failure()
    }
}
