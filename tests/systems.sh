#!/usr/bin/env bash
# Lints everything for macOS and Windows on a machine that is neither: what does not compile there is seen here.
#
#   tests/systems.sh ZIG...
#   pip install ziglang && tests/systems.sh python3 -m ziglang
#
# ZIG is the command of the Zig compiler: it brings the C headers of both systems, which the C parts of some crates need.
# Nothing is linked and nothing runs. The Rust targets are added with rustup.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
export CLIPPY_CONF_DIR=$PWD/tests/conf
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

# Zig names systems in its own way and knows no Apple SDK: those flags are left out.
compiler() {
    printf '#!/usr/bin/env bash\nexec %s ar "$@"\n' "${zig[*]@Q}" >"$tools/ar"
    cat >"$tools/$1" <<END
#!/usr/bin/env bash
kept=()
while [ \$# -gt 0 ]; do
    case \$1 in
        --target=* | -mmacosx-version-min=*) ;;
        -arch | -isysroot) shift ;;
        *) kept+=("\$1") ;;
    esac
    shift
done
exec ${zig[*]@Q} cc -target $2 -Wno-date-time "\${kept[@]}"
END
    chmod +x "$tools/$1" "$tools/ar"
}

zig=("$@")
lint() {
    local target=$1 system=$2 features=$3 name=${1//-/_}
    rustup target add "$target" 2>/dev/null
    compiler "$name" "$system"
    export "CC_$name=$tools/$name" "AR_$name=$tools/ar" SDKROOT=$tools
    echo "== $target, features $features"
    cargo clippy --locked --all-targets --target "$target" --features "$features" -- -D warnings
}

lint aarch64-apple-darwin aarch64-macos testing
lint x86_64-pc-windows-gnu x86_64-windows-gnu testing
