//! What a kernel launch is: a shader with its constants, an entry point, the memory it works on, its arguments and a grid.
//! Nothing here needs a GPU.

use serde::Serialize;

/// A place in a device's memory: the number of a slab and a byte in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(u64);

impl Address {
    const BYTE_BITS: u32 = 40;

    /// Byte number `byte` of a slab.
    pub fn new(slab: u32, byte: u64) -> Self {
        debug_assert!(byte >> Self::BYTE_BITS == 0, "a slab of a terabyte");
        Self((u64::from(slab) << Self::BYTE_BITS) | byte)
    }
    /// The slab's number.
    pub fn slab(self) -> u32 {
        (self.0 >> Self::BYTE_BITS) as u32
    }
    /// The byte in the slab.
    pub fn byte(self) -> u64 {
        self.0 & ((1 << Self::BYTE_BITS) - 1)
    }
    /// So many bytes further on in the same slab.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// How kernels see values in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 32-bit whole numbers.
    U32,
}

impl Format {
    /// Bytes of one value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 => 2,
        }
    }
    /// The type in WGSL.
    pub fn wgsl(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U32 => "u32",
        }
    }
}

/// Values a kernel reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Where they start.
    pub address: Address,
    /// How many there are.
    pub len: u64,
    /// Their format.
    pub format: Format,
}

impl Operand {
    /// So many values from an address on.
    pub fn new(address: Address, len: usize, format: Format) -> Self {
        Self { address, len: len as u64, format }
    }
    /// Bytes it spans.
    pub fn bytes(self) -> u64 {
        self.len * self.format.bytes()
    }
    /// `len` of its values from `first` on.
    #[must_use]
    pub fn part(self, first: usize, len: usize) -> Self {
        debug_assert!((first + len) as u64 <= self.len, "{first} + {len} of {}", self.len);
        Self { address: self.address.plus(first as u64 * self.format.bytes()), len: len as u64, ..self }
    }
}

/// What a cooperative matrix is in `left right + sums`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatrixRole {
    /// The left one.
    Left,
    /// The right one.
    Right,
    /// What the products are added to.
    Sums,
}

impl MatrixRole {
    /// Its name in WGSL.
    fn wgsl(self) -> &'static str {
        match self {
            Self::Left => "A",
            Self::Right => "B",
            Self::Sums => "C",
        }
    }
}

/// What a shader is compiled with: a type's name or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constant {
    /// `alias NAME = f32;`
    Type(Format),
    /// `const NAME: u32 = 3u;`
    Number(u32),
    /// `alias NAME = coop_mat8x8<f32, C>;`
    Matrix(u32, Format, MatrixRole),
}

impl From<Format> for Constant {
    fn from(format: Format) -> Self {
        Self::Type(format)
    }
}
impl From<u32> for Constant {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}
impl From<bool> for Constant {
    fn from(yes: bool) -> Self {
        Self::Number(u32::from(yes))
    }
}

/// A file of WGSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its name without the ending.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Most operands of a kernel: what every adapter can bind.
pub const MAX_OPERANDS: usize = 8;
/// Most 32-bit words that a kernel is given beside its operands, their places included: 128 bytes.
pub const MAX_WORDS: usize = 32;
/// Most workgroups in one direction of a grid.
pub const MAX_GRID: u32 = 65_535;

/// One kernel on one grid.
///
/// The shader declares `@group(0) @binding(i) var<storage, read_write>` for operand i, and `var<immediate> args: Args` with a
/// struct of 32-bit members: first, for each operand, the number of its first value in the binding, then [`Launch::words`].
/// A binding may hold other tensors before and behind the operand's values.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The shader.
    pub source: Source,
    /// Its entry point.
    pub entry: &'static str,
    /// What it is compiled with, in a fixed order.
    pub constants: Vec<(&'static str, Constant)>,
    /// What is bound; `None` for one that this launch does not touch.
    pub operands: Vec<Option<Operand>>,
    /// Further arguments.
    pub words: Vec<u32>,
    /// Workgroups in each direction; with a zero among them there is nothing to do.
    pub grid: [u32; 3],
    /// Floating-point operations.
    pub flops: f64,
}

impl Launch {
    /// A launch of one workgroup without constants and operands.
    pub fn new(source: Source, entry: &'static str) -> Self {
        Self { source, entry, constants: Vec::new(), operands: Vec::new(), words: Vec::new(), grid: [1; 3], flops: 0.0 }
    }

    /// Adds what the shader is compiled with.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: impl Into<Constant>) -> Self {
        self.constants.push((name, value.into()));
        self
    }
    /// Adds an operand.
    #[must_use]
    pub fn operand(mut self, operand: impl Into<Option<Operand>>) -> Self {
        self.operands.push(operand.into());
        self
    }
    /// Adds whole numbers.
    #[must_use]
    pub fn ints<const N: usize>(mut self, values: [usize; N]) -> Self {
        self.words.extend(values.map(|value| value as u32));
        self
    }
    /// Adds numbers.
    #[must_use]
    pub fn floats<const N: usize>(mut self, values: [f32; N]) -> Self {
        self.words.extend(values.map(f32::to_bits));
        self
    }
    /// Sets the grid.
    #[must_use]
    pub fn over(mut self, grid: [usize; 3]) -> Self {
        self.grid = grid.map(|count| count as u32);
        self
    }
    /// Sets a grid of `count` workgroups, folded into two directions where one cannot hold them: the shader numbers them
    /// with `block_index` and skips those beyond `count`.
    #[must_use]
    pub fn blocks(mut self, count: usize) -> Self {
        let width = count.min(MAX_GRID as usize);
        self.grid = [width as u32, count.div_ceil(width.max(1)) as u32, 1];
        self
    }
    /// Sets the number of floating-point operations.
    #[must_use]
    pub fn work(mut self, flops: f64) -> Self {
        self.flops = flops;
        self
    }

    /// Whether the grid holds no workgroup.
    pub fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }

    /// Bytes of all operands together: what is read and written at least.
    pub fn traffic(&self) -> u64 {
        self.operands.iter().flatten().map(|operand| operand.bytes()).sum()
    }

    /// What the compiler gets: the constants, the functions all shaders share, and the file.
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let has = |which: fn(Constant) -> bool| self.constants.iter().any(|(_, value)| which(*value));
        if has(|value| matches!(value, Constant::Type(Format::F16) | Constant::Matrix(_, Format::F16, _))) {
            text.push_str("enable f16;\n");
        }
        if has(|value| matches!(value, Constant::Matrix(..))) {
            text.push_str("enable wgpu_cooperative_matrix;\n");
        }
        for (name, value) in &self.constants {
            let _unfailing = match value {
                Constant::Type(format) => writeln!(text, "alias {name} = {};", format.wgsl()),
                Constant::Number(number) => writeln!(text, "const {name}: u32 = {number}u;"),
                Constant::Matrix(size, format, role) => {
                    let (format, role) = (format.wgsl(), role.wgsl());
                    writeln!(text, "alias {name} = coop_mat{size}x{size}<{format}, {role}>;")
                }
            };
        }
        text + include_str!("wgsl/common.wgsl") + self.source.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_slab_and_byte_apart() {
        let address = Address::new(7, 1 << 33).plus(12);
        assert_eq!((address.slab(), address.byte()), (7, (1 << 33) + 12));
        let operand = Operand::new(Address::new(1, 256), 100, Format::F16).part(3, 10);
        assert_eq!((operand.address.byte(), operand.bytes()), (262, 20));
    }

    #[test]
    fn long_grids_are_folded() {
        let grid = |count| Launch::new(Source { name: "", text: "" }, "main").blocks(count).grid;
        assert_eq!(grid(7), [7, 1, 1]);
        assert_eq!(grid(65_536), [65_535, 2, 1]);
        assert!(Launch::new(Source { name: "", text: "" }, "main").blocks(0).is_empty());
    }
}
