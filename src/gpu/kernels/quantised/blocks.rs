//! Formats of quantised matrices, and how their blocks lie on a device.

/// How the values of a quantised matrix are stored: GGML's formats. A block of neighbouring values of a row shares scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blocks {
    /// 16-bit floats, each a block of its own.
    F16,
    /// Brain floats, each a block of its own.
    Bf16,
    /// `d q`, q of 8 bits.
    Q8_0,
    /// `d (q - 8)`, q of 4 bits.
    Q4_0,
    /// `d q + m`, q of 4 bits.
    Q4_1,
    /// `d (q - 16)`, q of 5 bits.
    Q5_0,
    /// `d q + m`, q of 5 bits.
    Q5_1,
    /// `d s q - e m` with s and m for each 32 of 256, q of 4 bits.
    Q4K,
    /// The same, q of 5 bits.
    Q5K,
    /// `d s (q - 32)` with s for each 16 of 256, q of 6 bits.
    Q6K,
}

/// The shader text that unpacks a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gpu::kernels) enum Decoder {
    Halves,
    Bytes,
    Fours,
    Groups,
    Sixes,
}

/// What is known of a format.
struct Facts {
    /// Values of a block.
    values: usize,
    /// Bytes of a block in GGML.
    bytes: usize,
    /// Bytes of a block on a device.
    packed: usize,
    decoder: Decoder,
}

impl Blocks {
    /// All formats.
    pub const ALL: [Self; 10] = [
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    const fn facts(self) -> Facts {
        let (values, bytes, packed, decoder) = match self {
            Self::F16 | Self::Bf16 => (1, 2, 2, Decoder::Halves),
            Self::Q8_0 => (32, 34, 36, Decoder::Bytes),
            Self::Q4_0 => (32, 18, 20, Decoder::Fours),
            Self::Q4_1 => (32, 20, 20, Decoder::Fours),
            Self::Q5_0 => (32, 22, 24, Decoder::Fours),
            Self::Q5_1 => (32, 24, 24, Decoder::Fours),
            Self::Q4K => (256, 144, 144, Decoder::Groups),
            Self::Q5K => (256, 176, 176, Decoder::Groups),
            Self::Q6K => (256, 210, 212, Decoder::Sixes),
        };
        Facts { values, bytes, packed, decoder }
    }

    /// Values of a block; rows are whole blocks.
    pub fn values(self) -> usize {
        self.facts().values
    }

    /// Bytes of a block as GGML stores it.
    pub fn bytes(self) -> usize {
        self.facts().bytes
    }

    /// Words on a device that so many values take, whole blocks.
    pub fn words(self, values: usize) -> usize {
        let Facts { values: block, packed, .. } = self.facts();
        (values / block * packed).div_ceil(4)
    }

    /// The bytes on a device of GGML's bytes of whole blocks: each block is whole words, the numbers of its values start at
    /// one, and 16-bit floats lie two in a word. A matrix may be packed in parts of whole words.
    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        let Facts { values, bytes: size, packed, .. } = self.facts();
        let mut out = Vec::with_capacity((bytes.len() / size * packed).next_multiple_of(4));
        if packed == size {
            out.extend_from_slice(bytes);
        } else {
            // The 16-bit scale is alone in a word: at the start of blocks of 32, at the end of those of 256.
            let before = if values == 32 { 2 } else { size };
            for block in bytes.chunks_exact(size) {
                let (first, rest) = block.split_at(before);
                out.extend_from_slice(first);
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(rest);
            }
        }
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// The text that unpacks it.
    pub(in crate::gpu::kernels) fn decoder(self) -> Decoder {
        self.facts().decoder
    }

    /// What that text is compiled with.
    pub(in crate::gpu::kernels) fn constants(self) -> [(&'static str, bool); 3] {
        [
            ("FIFTH", matches!(self, Self::Q5_0 | Self::Q5_1 | Self::Q5K)),
            ("MINIMUM", matches!(self, Self::Q4_1 | Self::Q5_1)),
            ("BRAIN", self == Self::Bf16),
        ]
    }

    /// Rows of so many values that so many bytes hold, at least two. An even number: each such part starts with a word of
    /// its own. Kernels count values in 32 bits.
    pub(in crate::gpu::kernels) fn rows_in(self, bytes: u64, columns: usize) -> usize {
        let two = 2 * columns;
        let held = bytes / (4 * self.words(two) as u64).max(1);
        let counted = u64::from(u32::MAX) / (two as u64).max(1);
        2 * held.min(counted).max(1) as usize
    }
}
