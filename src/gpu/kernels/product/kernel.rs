//! The launches of one piece of a product.

use super::cooperative::{self, CooperativeTile, CooperativeUnit};
use super::tile::{self, Tile};
use super::{Epilogue, Form, LowRank, Product, ProductPlan};
use crate::gpu::kernels::quantised::Blocks;
use crate::gpu::{Constant, Format, Launch, MatrixRole, Operand, Source};

/// The text of a kernel, put together from files.
macro_rules! shader {
    ($name:expr, [$($part:expr),*]) => {
        Source {
            name: $name,
            text: concat!(
                include_str!("../../wgsl/product.wgsl"),
                $(include_str!(concat!("../../wgsl/", $part, ".wgsl")),)*
            ),
        }
    };
}

/// The kernels that have a and b in one way.
struct Sources {
    /// By whether a, and b if it is not packed, is loaded, and whether out is stored four values at a time.
    tile: [[Source; 2]; 2],
    /// By whether a, and b if it is not packed, is loaded four values at a time.
    few: [Source; 2],
}

/// Of plain numbers.
static PLAIN: Sources = Sources {
    tile: [
        [
            shader!(
                "product_tile",
                ["product_a_single", "product_b_single", "product_store_single", "product_corner", "product_tile"]
            ),
            shader!(
                "product_tile_store4",
                ["product_a_single", "product_b_single", "product_store_wide", "product_corner", "product_tile"]
            ),
        ],
        [
            shader!(
                "product_tile_load4",
                ["product_a_wide", "product_b_wide", "product_store_single", "product_corner", "product_tile"]
            ),
            shader!(
                "product_tile_load4_store4",
                ["product_a_wide", "product_b_wide", "product_store_wide", "product_corner", "product_tile"]
            ),
        ],
    ],
    few: [
        shader!(
            "product_few",
            ["product_a_single", "product_b_single", "product_store_single", "product_few_sums", "product_few"]
        ),
        shader!(
            "product_few_load4",
            ["product_a_wide", "product_b_wide", "product_store_single", "product_few_sums", "product_few"]
        ),
    ],
};

/// Of a packed b.
macro_rules! packed {
    ($decoder:literal) => {
        Sources {
            tile: [
                [packed!(tile, $decoder, "single", "single"), packed!(tile, $decoder, "single", "wide")],
                [packed!(tile, $decoder, "wide", "single"), packed!(tile, $decoder, "wide", "wide")],
            ],
            few: [packed!(few, $decoder, "single"), packed!(few, $decoder, "wide")],
        }
    };
    (tile, $decoder:literal, $load:literal, $store:literal) => {
        shader!(
            concat!("quantised_tile_", $decoder, "_", $load, "_", $store),
            [
                concat!("product_a_", $load),
                "quantised",
                concat!("quantised_", $decoder),
                concat!("product_store_", $store),
                "product_corner",
                "product_tile"
            ]
        )
    };
    (few, $decoder:literal, $load:literal) => {
        shader!(
            concat!("quantised_few_", $decoder, "_", $load),
            [
                concat!("product_a_", $load),
                "quantised",
                concat!("quantised_", $decoder),
                "product_store_single",
                "quantised_few",
                "product_few"
            ]
        )
    };
}

/// With cooperative matrices.
macro_rules! cooperative {
    ($load:literal, $store:literal) => {
        shader!(
            concat!("product_cooperative_", $load, "_", $store),
            [
                concat!("product_a_", $load),
                concat!("product_b_", $load),
                concat!("product_store_", $store),
                "product_corner",
                "product_cooperative"
            ]
        )
    };
}

/// By decoder.
static PACKED: [Sources; 5] =
    [packed!("halves"), packed!("bytes"), packed!("fours"), packed!("groups"), packed!("sixes")];

/// By whether all is done four values at a time.
const COMBINE: [Source; 2] = [
    shader!("product_combine", ["product_a_single", "product_store_single", "product_combine"]),
    shader!("product_combine4", ["product_a_wide", "product_store_wide", "product_combine"]),
];

/// With cooperative matrices: by whether a and b are loaded, and whether out is stored four values at a time.
static COOPERATIVE: [[Source; 2]; 2] = [
    [cooperative!("single", "single"), cooperative!("single", "wide")],
    [cooperative!("wide", "single"), cooperative!("wide", "wide")],
];

/// The number that stands for out among further operands.
const OUT: u32 = 5;
/// Further operands beside a low-rank term.
const EXTRAS: usize = 2;
/// Columns of out that a workgroup computes of a product of few rows.
const FEW_COLUMNS: usize = 8;
/// Threads of a workgroup that adds up slices.
const COMBINE_THREADS: usize = 256;

/// Whether a kernel of its own computes the product: few rows, as when text is generated.
pub(super) fn is_few(product: &Product) -> bool {
    product.form == Form::Nt && product.m <= 8 && product.k > 0
}

/// What computes a product that [`is_few`] does not hold for.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Tiles(Tile),
    Matrices(CooperativeUnit),
}

/// What computes a product, and into how many slices its sums are cut: 1 unless `slices`.
pub(super) fn choose(product: &Product, plan: &ProductPlan, slices: bool) -> (Way, usize) {
    let cooperative = if is_few(product) { None } else { cooperative::choose(product, plan, slices) };
    if let Some((unit, slices)) = cooperative {
        return (Way::Matrices(unit), slices);
    }
    let (tile, slices) = tile::choose(product.shape(), plan, slices);
    (Way::Tiles(tile), slices)
}

/// Whether one operand can hold the sums of so many slices of k.
pub(super) fn fits_scratch(product: &Product, slices: usize, plan: &ProductPlan) -> bool {
    (slices * product.m * product.n) as u64 * Format::F32.bytes() <= plan.limit()
}

/// A piece of a product that is small enough for one launch.
pub(super) struct Part {
    /// The piece, as a product.
    pub(super) product: Product,
    /// The number of its first row, as the runs of a low-rank term count.
    pub(super) first_row: usize,
}

/// Whether each row of an operand starts at a multiple of four values.
fn is_aligned(operand: Operand, row: usize) -> bool {
    row.is_multiple_of(4) && operand.address.byte().is_multiple_of(4 * operand.format.bytes())
}

/// Further operands, and the numbers of those with a role.
struct Extras {
    operands: Vec<Operand>,
    bias: u32,
    slope: u32,
    add: u32,
    act: u32,
}

impl Extras {
    fn of(epilogue: &Epilogue, out: Operand) -> Self {
        let mut operands = Vec::new();
        let mut number = |operand: Option<Operand>| {
            operands.extend(operand);
            operand.map_or(0, |_| operands.len() as u32)
        };
        let bias = number(epilogue.bias);
        let slope = number(epilogue.slope.map(|(_, z)| z));
        let act = number(epilogue.act.map(|(_, y)| y));
        let add = match epilogue.add {
            Some(add) if add.address == out.address && add.format == out.format => OUT,
            add => number(add),
        };
        Self { operands, bias, slope, add, act }
    }
}

impl Part {
    /// The launches that compute it. With scratch memory its sums may be cut.
    pub(super) fn launches(mut self, plan: &ProductPlan, scratch: Option<Operand>, launches: &mut Vec<Launch>) {
        let product = &mut self.product;
        if product.epilogue.low_rank.is_some() && Extras::of(&product.epilogue, product.out).operands.len() > EXTRAS {
            // More than a kernel can bind: the low-rank term, which the slope multiplies too, goes on top afterwards.
            let Epilogue { low_rank, act, slope, .. } = product.epilogue.clone();
            let add = Some(product.out);
            let epilogue = Epilogue { low_rank, act, slope, add, ..Epilogue::default() };
            (product.epilogue.low_rank, product.epilogue.act) = (None, None);
            let rest = Product { k: 0, packed: None, epilogue, ..product.clone() };
            let rest = Self { product: rest, first_row: self.first_row };
            self.launches(plan, scratch, launches);
            rest.launches(plan, None, launches);
            return;
        }
        if is_few(product) {
            launches.push(self.few());
            return;
        }
        let Product { m, n, .. } = *product;
        if let Some(scratch) = scratch {
            let (way, slices) = choose(product, plan, true);
            if slices > 1 && (slices * m * n) as u64 <= scratch.len && fits_scratch(product, slices, plan) {
                let sums = scratch.part(0, slices * m * n);
                let rows = [product.rows[0], product.rows[1], n];
                let epilogue = Epilogue::default();
                let partial = Product { out: sums, rows, epilogue, ..product.clone() };
                launches.push(Self { product: partial, first_row: 0 }.by(way, slices));
                launches.push(self.combine(sums, slices));
                return;
            }
        }
        let (way, _) = choose(product, plan, false);
        launches.push(self.by(way, 1));
    }

    fn by(&self, way: Way, slices: usize) -> Launch {
        match way {
            Way::Tiles(tile) => self.tiled(tile, slices),
            Way::Matrices(unit) => self.cooperative(&unit, slices),
        }
    }

    fn few(&self) -> Launch {
        let Product { m, n, k, a, b, .. } = self.product;
        let wide = self.loads_four();
        let source = self.sources().few[usize::from(wide)];
        let launch = self.unpacking(self.launch(source, "few", [Some(a), Some(b)], k));
        launch.constant("M", m.next_power_of_two() as u32).blocks(n.div_ceil(FEW_COLUMNS))
    }

    fn combine(&self, sums: Operand, slices: usize) -> Launch {
        let Product { m, n, rows: [_, b_row, row], .. } = self.product;
        let wide = self.stores_four() && is_aligned(sums, n);
        let summed = Product { rows: [n, b_row, row], ..self.product.clone() };
        let part = Self { product: summed, first_row: self.first_row };
        let launch = part.launch(COMBINE[usize::from(wide)], "combine", [Some(sums), None], slices);
        launch.blocks((m * n.div_ceil(4)).div_ceil(COMBINE_THREADS))
    }

    fn tiled(&self, tile: Tile, slices: usize) -> Launch {
        let Product { form, m, n, k, a, b, .. } = self.product;
        let source = self.sources().tile[usize::from(self.loads_four())][usize::from(self.stores_four())];
        let fetched = if a.format == b.format { a.format } else { Format::F32 };
        let launch = self.launch(source, "product", [a, b].map(|operand| (k > 0).then_some(operand)), k);
        self.unpacking(launch)
            .constant("R", fetched)
            .constant("TM", tile.m as u32)
            .constant("TN", tile.n as u32)
            .constant("TK", tile.k as u32)
            .constant("RM", tile.block[0] as u32)
            .constant("RN", tile.block[1] as u32)
            .constant("A_ROWS", form != Form::Tn)
            .constant("B_ROWS", form == Form::Nt)
            .over([n.div_ceil(tile.n), m.div_ceil(tile.m), slices])
    }

    fn cooperative(&self, unit: &CooperativeUnit, slices: usize) -> Launch {
        let Product { form, m, n, k, a, b, .. } = self.product;
        let CooperativeTile { subgroups, matrices, .. } = unit.tile;
        let ([tile_m, tile_n, tile_k], size) = (unit.shape(), unit.size as u32);
        let source = COOPERATIVE[usize::from(self.loads_four())][usize::from(self.stores_four())];
        self.launch(source, "cooperative", [Some(a), Some(b)], k)
            .constant("LEFT", Constant::Matrix(size, unit.operands, MatrixRole::Left))
            .constant("RIGHT", Constant::Matrix(size, unit.operands, MatrixRole::Right))
            .constant("SUMS", Constant::Matrix(size, Format::F32, MatrixRole::Sums))
            .constant("S", size)
            .constant("GM", subgroups[0] as u32)
            .constant("GN", subgroups[1] as u32)
            .constant("FM", matrices[0] as u32)
            .constant("FN", matrices[1] as u32)
            .constant("TK", tile_k as u32)
            .constant("PAD", unit.pad() as u32)
            .constant("THREADS", unit.workgroup() as u32)
            .constant("A_ROWS", form != Form::Tn)
            .constant("B_ROWS", form == Form::Nt)
            .over([n.div_ceil(tile_n), m.div_ceil(tile_m), slices])
    }

    /// The kernels for what b is.
    fn sources(&self) -> &'static Sources {
        self.product.packed.map_or(&PLAIN, |blocks| &PACKED[blocks.decoder() as usize])
    }

    /// Adds what a packed b is unpacked with.
    fn unpacking(&self, launch: Launch) -> Launch {
        let constants = self.product.packed.map(Blocks::constants);
        constants.into_iter().flatten().fold(launch, |launch, (name, value)| launch.constant(name, value))
    }

    /// Whether four values of a row of a, and of b if it is not packed, can be loaded at a time.
    fn loads_four(&self) -> bool {
        let Product { form, m, n, k, a, b, packed, rows: [a_row, b_row, _], .. } = self.product;
        if packed.is_some() {
            return k.is_multiple_of(4) && is_aligned(a, a_row);
        }
        let widths = match form {
            Form::Nt => [k, k],
            Form::Nn => [k, n],
            Form::Tn => [m, n],
        };
        widths.iter().all(|width| width.is_multiple_of(4)) && is_aligned(a, a_row) && is_aligned(b, b_row)
    }

    /// Whether four values of a row of out, and of all that is used at its end, can be handled at a time.
    fn stores_four(&self) -> bool {
        let Product { n, out, rows: [_, _, row], epilogue, .. } = &self.product;
        let extras = Extras::of(epilogue, *out).operands;
        let low_rank = epilogue.low_rank.as_ref().is_none_or(|low_rank| {
            let starts = low_rank.blocks.iter().all(|block| block.z.is_multiple_of(4));
            starts && is_aligned(low_rank.z, low_rank.z_row) && is_aligned(low_rank.b, low_rank.rank)
        });
        n.is_multiple_of(4) && is_aligned(*out, *row) && extras.iter().all(|&extra| is_aligned(extra, 4)) && low_rank
    }

    /// What all kernels are given: everything but the grid and their own constants.
    fn launch(&self, source: Source, entry: &'static str, [a, b]: [Option<Operand>; 2], k: usize) -> Launch {
        let Product { m, n, out, rows: [a_row, b_row, row], epilogue, .. } = &self.product;
        let extras = Extras::of(epilogue, *out);
        let low_rank = epilogue.low_rank.as_ref();
        let [e1, e2, mut e3, mut e4] = [0, 1, 2, 3].map(|i| extras.operands.get(i).copied());
        if let Some(low_rank) = low_rank {
            (e3, e4) = (Some(low_rank.z), Some(low_rank.b));
        }
        let format = |operand: Option<Operand>| operand.map_or(Format::F32, |operand| operand.format);
        let flops = 2.0 * (*m * k) as f64 * *n as f64 + low_rank.map_or(0.0, |low_rank| low_rank.flops(*m));
        let launch = Launch::new(source, entry)
            .constant("XA", format(a))
            .constant("XB", format(b))
            .constant("O", out.format)
            .constant("E1", format(e1))
            .constant("E2", format(e2))
            .constant("E3", format(e3))
            .constant("E4", format(e4))
            .constant("BIAS", extras.bias)
            .constant("SLOPE", extras.slope)
            .constant("SLOPE_OF", epilogue.slope.map_or(0, |(act, _)| act))
            .constant("ADD", extras.add)
            .constant("ACT", extras.act)
            .constant("ACT_OF", epilogue.act.map_or(0, |(act, _)| act))
            .constant("RANK", low_rank.map_or(0, |low_rank| low_rank.rank as u32))
            .operand(a)
            .operand(b)
            .operand(*out)
            .operand(e1)
            .operand(e2)
            .operand(e3)
            .operand(e4)
            .operand(low_rank.map(|low_rank| low_rank.runs))
            .ints([*m, *n, k, *a_row, *b_row, *row])
            .floats([epilogue.scale])
            .work(flops);
        let Some(low_rank) = low_rank else { return launch.ints([0; 17]) };
        let mut launch = launch
            .ints([low_rank.z_row, low_rank.rows, low_rank.run_count])
            .floats([low_rank.scale])
            .ints([self.first_row]);
        for i in 0..LowRank::BLOCKS {
            launch = launch.ints(match low_rank.blocks.get(i) {
                Some(block) => [block.columns.start, block.columns.end, block.row, block.z],
                None => [0; 4],
            });
        }
        launch
    }
}

impl LowRank {
    /// Floating-point operations for so many rows.
    fn flops(&self, m: usize) -> f64 {
        let columns: usize = self.blocks.iter().map(|block| block.columns.len()).sum();
        2.0 * (m * self.rank) as f64 * columns as f64
    }
}
