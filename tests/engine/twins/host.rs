//! Compiling a source with the C compiler, calling it, and memory that notices writes beyond its ends.

use adamix::nn::kernels::cuda::launch::{Launch, Macros, Source};
use adamix::tensor::{DType, Device, Shape, Tensor};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_void};
use std::path::Path;
use std::process::Command;

const SHIM: &str = include_str!("host.h");

type Kernel = unsafe extern "C" fn(*const c_void);
type Run = unsafe extern "C" fn(Kernel, *const u32, u32, u32, *const c_void) -> c_int;

/// A loaded library; it stays loaded until the process ends.
#[derive(Clone, Copy)]
struct Library(usize);

fn compile(text: &str, macros: &Macros) -> Result<Library, String> {
    let dir = tempfile::tempdir().map_err(|err| err.to_string())?;
    let (source, library) = (dir.path().join("kernels.c"), dir.path().join("kernels.so"));
    std::fs::write(&source, format!("{SHIM}\n{text}")).map_err(|err| err.to_string())?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut command = Command::new(&compiler);
    command.args(["-O1", "-std=gnu11", "-fno-strict-aliasing", "-ffp-contract=off", "-w", "-shared", "-fPIC"]);
    command.args(macros.iter().map(|(name, value)| format!("-D{name}={value}")));
    let output = command.arg("-o").arg(&library).arg(&source).arg("-lm").output();
    let output = output.map_err(|err| format!("{compiler} cannot be started: {err}"))?;
    if !output.status.success() {
        return Err(format!("{compiler}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    open(&library)
}

#[expect(unsafe_code, reason = "loads the library that was just compiled")]
fn open(path: &Path) -> Result<Library, String> {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string; the library has no initialisers.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() { Err(format!("{} cannot be loaded", path.display())) } else { Ok(Library(handle as usize)) }
}

impl Library {
    #[expect(unsafe_code, reason = "looks a symbol up in a loaded library")]
    fn symbol(self, name: &str) -> Result<*mut c_void, String> {
        let c_name = CString::new(name).unwrap();
        // SAFETY: the handle is open and the name a C string.
        let found = unsafe { libc::dlsym(self.0 as *mut c_void, c_name.as_ptr()) };
        if found.is_null() { Err(format!("there is no {name}")) } else { Ok(found) }
    }

    #[expect(unsafe_code, reason = "calls the compiled kernel with the launch made for it")]
    fn run(self, launch: &Launch) -> Result<(), String> {
        let (run, kernel) = (self.symbol("twin_launch")?, self.symbol(launch.kernel)?);
        let args: *const u64 = launch.args.words().as_ptr();
        // SAFETY: both symbols have these types in the source; addresses in the arguments are of live test memory.
        let code = unsafe {
            let (run, kernel) =
                (std::mem::transmute::<*mut c_void, Run>(run), std::mem::transmute::<*mut c_void, Kernel>(kernel));
            run(kernel, launch.grid.as_ptr(), launch.threads, launch.shared, args.cast())
        };
        match code {
            0 => Ok(()),
            3 => Err(format!("{}: a thread left while others waited for it", launch.kernel)),
            4 => Err(format!("{}: threads wait for each other", launch.kernel)),
            5 => Err(format!("{}: too many threads or too much shared memory", launch.kernel)),
            other => Err(format!("{}: failed with {other}", launch.kernel)),
        }
    }
}

/// Runs a launch of one of the program's own sources.
#[track_caller]
pub fn run(launch: &Launch) {
    static LIBRARIES: Mutex<BTreeMap<(Source, Macros), Library>> = Mutex::new(BTreeMap::new());
    if launch.is_empty() {
        return;
    }
    // Held while it runs: a library's threads live in its static memory.
    let mut libraries = LIBRARIES.lock();
    let key = (launch.source, launch.macros.clone());
    let library = *libraries.entry(key).or_insert_with(|| compile(&launch.source.text(), &launch.macros).unwrap());
    library.run(launch).unwrap();
}

/// Runs a kernel of another text.
pub fn run_text(text: &str, launch: &Launch) -> Result<(), String> {
    let common = include_str!("../../../src/nn/kernels/cuda/common.h");
    compile(&format!("{common}\n{text}"), &launch.macros)?.run(launch)
}

const GUARD: usize = 4;
const UNTOUCHED: u128 = 0xa5a5_a5a5_a5a5_a5a5_a5a5_a5a5_a5a5_a5a5;

/// A tensor's values between two guards.
pub struct Memory {
    raw: Vec<u128>,
    dtype: DType,
    len: usize,
    /// Values in front of the first one, to move it off its alignment.
    shift: usize,
}

impl Memory {
    /// Memory that nobody has written yet: not a number, in every format.
    pub fn empty(len: usize, dtype: DType) -> Self {
        Self::filled(&vec![0xff; len * dtype.size_in_bytes()], dtype, 0)
    }

    /// A copy of a tensor's values.
    pub fn of(x: &Tensor) -> Self {
        Self::shifted(x, 0)
    }

    /// A copy that starts `shift` values behind an aligned address.
    pub fn shifted(x: &Tensor, shift: usize) -> Self {
        let flat = x.flatten_all().unwrap();
        let bytes: Vec<u8> = match x.dtype() {
            DType::F32 => flat.to_vec1::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::F64 => flat.to_vec1::<f64>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::BF16 => flat.to_vec1::<half::bf16>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::F16 => flat.to_vec1::<half::f16>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::U32 => flat.to_vec1::<u32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
            other => panic!("no test needs {other:?}"),
        };
        Self::filled(&bytes, x.dtype(), shift)
    }

    /// Whole words.
    pub fn words(words: &[u64]) -> Self {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        Self::filled(&bytes, DType::F64, 0)
    }

    fn filled(bytes: &[u8], dtype: DType, shift: usize) -> Self {
        let start = shift * dtype.size_in_bytes();
        let mut raw = vec![UNTOUCHED; 2 * GUARD + (start + bytes.len()).div_ceil(16)];
        for (i, &byte) in bytes.iter().enumerate() {
            let at = start + i;
            let word = &mut raw[GUARD + at / 16];
            *word = *word & !(0xff << (8 * (at % 16))) | u128::from(byte) << (8 * (at % 16));
        }
        Self { raw, dtype, len: bytes.len() / dtype.size_in_bytes(), shift }
    }

    /// Where the first value lies.
    pub fn address(&mut self) -> u64 {
        self.raw.as_mut_ptr() as u64 + (16 * GUARD + self.shift * self.dtype.size_in_bytes()) as u64
    }

    /// The values as a tensor, after checking that nothing around them was written.
    #[track_caller]
    pub fn tensor(&self, shape: impl Into<Shape>) -> Tensor {
        let size = self.dtype.size_in_bytes();
        let all: Vec<u8> = self.raw.iter().flat_map(|w| w.to_le_bytes()).collect();
        let start = 16 * GUARD + self.shift * size;
        let (inside, after) = all[start..].split_at(self.len * size);
        assert!(all[..start].iter().chain(after).all(|&byte| byte == 0xa5), "a kernel wrote outside its tensor");
        fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| f(*chunk)).collect()
        }
        let device = &Device::Cpu;
        let flat = match self.dtype {
            DType::F32 => Tensor::from_vec(each(inside, f32::from_le_bytes), self.len, device),
            DType::F64 => Tensor::from_vec(each(inside, f64::from_le_bytes), self.len, device),
            DType::BF16 => Tensor::from_vec(each(inside, half::bf16::from_le_bytes), self.len, device),
            DType::F16 => Tensor::from_vec(each(inside, half::f16::from_le_bytes), self.len, device),
            _ => Tensor::from_vec(each(inside, u32::from_le_bytes), self.len, device),
        };
        flat.unwrap().reshape(shape).unwrap()
    }
}
