//! CRC-32C (Castagnoli), the checksum of TensorBoard files and of `routes.bin`.

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// `TABLES[k][byte]`: the checksum of the byte followed by k zeros; eight bytes are taken at once with them.
const TABLES: [[u32; 256]; 8] = {
    let mut tables = [TABLE; 8];
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ TABLE[(before & 0xff) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
};

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let crc = words.iter().fold(!0u32, |crc, word| {
        let mixed = u64::from_le_bytes(*word) ^ u64::from(crc);
        let parts = mixed.to_le_bytes();
        (0..8).fold(0, |sum, i| sum ^ TABLES[7 - i][usize::from(parts[i])])
    });
    !rest.iter().fold(crc, |crc, &byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(byte)) & 0xff) as usize])
}

/// The checksum as TFRecord files store it: rotated and shifted, so that a checksum of checksums stays sound.
pub fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn known_checksums() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let plain = |bytes: &[u8]| {
            !bytes
                .iter()
                .fold(!0, |crc: u32, &byte| (crc >> 8) ^ super::TABLE[((crc ^ u32::from(byte)) & 0xff) as usize])
        };
        let many: Vec<u8> = (0..100u32).map(|i| (i * i) as u8).collect();
        for length in 0..many.len() {
            assert_eq!(crc32c(&many[..length]), plain(&many[..length]), "{length} bytes");
        }
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }
}
