//! The kernels through NVIDIA's run-time compiler, where its library is on this machine: no GPU and no driver needed.

use adamix::nn::kernels::cuda::launch::{Macros, Source};
use std::ffi::{CStr, CString, c_char, c_int, c_void};

const SOURCES: [Source; 9] = [
    Source::Elementwise,
    Source::LayerNorm,
    Source::Update,
    Source::Routed,
    Source::Attention,
    Source::Norms,
    Source::Gated,
    Source::Vocab,
    Source::CachedAttention,
];

fn kernels(source: Source) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("KERNEL(")?.split(',').next()?.to_owned());
    source.text().lines().filter_map(name).collect()
}

type Create =
    unsafe extern "C" fn(*mut *mut c_void, *const c_char, *const c_char, c_int, *const c_void, *const c_void) -> c_int;
type Compile = unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;

/// The compiler's functions: create, compile, size and text of the log, size and text of the result.
struct Nvrtc(*mut c_void);

#[expect(unsafe_code, reason = "loads a library by name and looks up its functions")]
impl Nvrtc {
    fn open() -> Option<Self> {
        let below = |variable: &str, path: &str| std::env::var(variable).ok().map(|dir| format!("{dir}/{path}"));
        let candidates = [
            below("CUDA_HOME", "lib/libnvrtc.so"),
            below("CUDA_HOME", "lib64/libnvrtc.so"),
            below("CUDA_HOME", "../lib/libnvrtc.so"),
            below("CUDA_PATH", "lib64/libnvrtc.so"),
            Some("libnvrtc.so.13".to_owned()),
            Some("libnvrtc.so.12".to_owned()),
            Some("/usr/local/cuda/lib64/libnvrtc.so".to_owned()),
            below("HOME", ".cuda-13/lib/libnvrtc.so"),
        ];
        candidates.into_iter().flatten().find_map(|name| {
            // It opens its built-in declarations by name: they are found when they are loaded already.
            let beside = std::path::Path::new(&name).parent().and_then(|dir| std::fs::read_dir(dir).ok());
            for file in beside.into_iter().flatten().flatten().map(|entry| entry.path()) {
                if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc-builtins.so.")) {
                    let file = CString::new(file.to_str().unwrap()).unwrap();
                    // SAFETY: the name is a C string.
                    unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
                }
            }
            let name = CString::new(name).unwrap();
            // SAFETY: the name is a C string.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            (!handle.is_null()).then_some(Self(handle))
        })
    }

    fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is open and the name a C string.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!found.is_null(), "libnvrtc has no {name:?}");
        found
    }

    /// PTX, or the compiler's words.
    fn compile(&self, source: Source, macros: &Macros) -> Result<String, String> {
        let text = CString::new(source.text()).unwrap();
        let mut options = vec!["--gpu-architecture=compute_80".to_owned(), "--std=c++17".to_owned()];
        options.extend(macros.iter().map(|(name, value)| format!("-D{name}={value}")));
        let options: Vec<CString> = options.into_iter().map(|o| CString::new(o).unwrap()).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        // SAFETY: the functions have these types in nvrtc.h; all pointers are of live memory of the sizes asked for.
        unsafe {
            let create = std::mem::transmute::<*mut c_void, Create>(self.symbol(c"nvrtcCreateProgram"));
            let compile = std::mem::transmute::<*mut c_void, Compile>(self.symbol(c"nvrtcCompileProgram"));
            let read = |size: &CStr, text: &CStr, program: *mut c_void| {
                let size = std::mem::transmute::<*mut c_void, Size>(self.symbol(size));
                let text = std::mem::transmute::<*mut c_void, Text>(self.symbol(text));
                let mut n = 0;
                assert_eq!(size(program, &raw mut n), 0);
                let mut bytes = vec![0u8; n];
                assert_eq!(text(program, bytes.as_mut_ptr().cast()), 0);
                String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
            };
            let mut program = std::ptr::null_mut();
            let none = std::ptr::null();
            assert_eq!(create(&raw mut program, text.as_ptr(), std::ptr::null(), 0, none, none), 0);
            if compile(program, pointers.len() as c_int, pointers.as_ptr()) != 0 {
                return Err(read(c"nvrtcGetProgramLogSize", c"nvrtcGetProgramLog", program));
            }
            Ok(read(c"nvrtcGetPTXSize", c"nvrtcGetPTX", program))
        }
    }
}

fn variants(source: Source) -> Vec<Macros> {
    let formats = 0..3;
    match source {
        Source::Update => vec![Vec::new()],
        Source::Routed => {
            let tiles = [[32, 16, 2, 2], [16, 64, 2, 4], [64, 64, 8, 4]];
            let all = formats.flat_map(|x| (0..3).flat_map(move |y| tiles.map(|tile| (x, y, tile))));
            all.map(|(x, y, [rows, cols, tm, tn])| {
                vec![("X", x), ("Y", y), ("ROWS", rows), ("COLS", cols), ("TM", tm), ("TN", tn)]
            })
            .collect()
        }
        Source::Attention | Source::CachedAttention => {
            formats.flat_map(|x| [5, 32, 64, 128].map(|head| vec![("X", x), ("HEAD", head)])).collect()
        }
        _ => formats.map(|x| vec![("X", x)]).collect(),
    }
}

#[test]
fn every_source_names_its_kernels() {
    let count: usize = SOURCES.map(|source| kernels(source).len()).iter().sum();
    assert_eq!(kernels(Source::Attention), ["attention_forward", "attention_queries", "attention_keys"]);
    assert_eq!(count, 29);
}

#[test]
fn every_kernel_compiles_to_ptx() {
    let Some(nvrtc) = Nvrtc::open() else {
        println!("not checked: libnvrtc was not found (CUDA_HOME, CUDA_PATH, the loader's path)");
        return;
    };
    for source in SOURCES {
        for macros in variants(source) {
            let ptx = nvrtc.compile(source, &macros).unwrap_or_else(|log| panic!("{source:?} {macros:?}: {log}"));
            for kernel in kernels(source) {
                assert!(ptx.contains(&format!(".entry {kernel}(")), "{source:?} has no {kernel}");
            }
        }
    }
    assert!(nvrtc.compile(Source::Attention, &vec![("X", 0)]).is_err(), "an unknown macro was compiled");
}
