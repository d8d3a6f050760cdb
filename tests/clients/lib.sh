# Shared by the files of suites/, each of which is run as `install` or as `run DIRECTORY`.
# shellcheck shell=bash
set -euo pipefail

suite=$(basename "$0")
home=${CLIENTS_CACHE:?is set by tests/clients/run}/$suite
# psql and the like; absent while it is installed.
# shellcheck disable=SC2034
tools=${CLIENTS_TOOLS:-}
unavailable=75

# What can't be had here is said, and skipped by name.
missing() {
    echo "$*"
    exit $unavailable
}

# installed VERSION: whether this version of the suite is here already
installed() { [ "$(cat "$home/.installed" 2>/dev/null)" = "$1" ]; }

# fresh: an empty home for the suite
fresh() {
    rm -rf "$home"
    mkdir -p "$home"
}

# done_with VERSION
done_with() {
    chmod -R a+rX "$home"
    echo "$1" >"$home/.installed"
}

# python REQUIREMENT…: an environment of the suite's own
python() {
    python3 -m venv "$home/python"
    "$home/python/bin/pip" --disable-pip-version-check install --quiet pytest pytest-timeout "$@"
}

# sdist PROJECT VERSION: its source, from the archive that holds the tests which wheels leave out
sdist() {
    local unpack
    unpack=$(mktemp -d "$home/unpack.XXXXXX")
    "$home/python/bin/pip" --disable-pip-version-check download --quiet --no-deps --no-binary "$1" --dest "$unpack" "$1==$2"
    "$home/python/bin/python" -m tarfile -e "$unpack"/*.tar.gz "$unpack/unpacked" >/dev/null
    mv "$unpack"/unpacked/* "$home/source"
    rm -rf "$unpack"
}

# debian_source RELEASE PACKAGE: the upstream archive of a Debian source package, which apt checks against the signed
# index, unpacked into source. The machine's own lists stay as they are.
debian_source() {
    local release=$1 package=$2 site keyring=/usr/share/keyrings/debian-archive-keyring.gpg archive
    command -v apt-get >/dev/null && [ -r $keyring ] || missing "comes from Debian's archive"
    # apt-get expands those. Read whole: who looks only at the first line breaks the pipe.
    # shellcheck disable=SC2016
    site=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" && !n++ { print $2 }')
    mkdir -p "$home"/apt/{lists/partial,archives/partial}
    echo "deb-src [signed-by=$keyring] ${site:-http://deb.debian.org/debian/} $release main" >"$home/apt/sources.list"
    cat >"$home/apt/conf" <<END
Dir::State::lists "$home/apt/lists";
Dir::Cache "$home/apt";
Dir::Etc::sourcelist "$home/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
END
    # One of several archives that isn't there fails the whole of it, and the others have come.
    (
        cd "$home/apt"
        export APT_CONFIG=$home/apt/conf
        apt-get update -qq && apt-get source -qq --only-source --tar-only --download-only "$package/$release"
    ) >"$home/apt/log" 2>&1 </dev/null || true
    archive=$(find "$home/apt" -maxdepth 1 -name "${package}_*.orig.tar.*" -print -quit)
    [ -n "$archive" ] || missing "Debian's archive has no $package of $release: $(grep -m 1 '^E:' "$home/apt/log")"
    mkdir "$home/source"
    tar -xf "$archive" -C "$home/source" --strip-components 1
    rm -rf "$home/apt"
}

# pytest NAME ARGUMENT…: results in NAME.junit.xml; a test that hangs fails after three minutes
pytest() {
    local name=$1
    shift
    "$home/python/bin/python" -m pytest -q -p no:cacheprovider --timeout 180 --tb=short \
        --junitxml="$directory/$name.junit.xml" "$@"
}

# packages PACKAGE…: those of the distribution
packages() {
    command -v dpkg-query >/dev/null || missing "comes from Debian's packages: $*"
    dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null | grep -qv '^installed$' ||
        [ "$(dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null | wc -l)" != $# ] || return 0
    [ "$(id -u)" = 0 ] || missing "please install: $*"
    export DEBIAN_FRONTEND=noninteractive
    local options=(-y -qq --no-install-recommends)
    {
        apt-get install "${options[@]}" "$@" || { apt-get update -qq && apt-get install "${options[@]}" "$@"; }
    } >/dev/null 2>&1 </dev/null || missing "apt-get can't install: $*"
}

# go_packages PACKAGE…: Go, and libraries that it finds without a module proxy
go_packages() { packages golang-go gcc libc6-dev golang-github-stretchr-testify-dev "$@"; }

# go_test NAME PACKAGE: results in NAME.gotest.json
go_test() {
    GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS='' GOCACHE=$CLIENTS_CACHE/go-cache \
        go test -json -vet=off -count=1 -p 1 -timeout 10m "$2" >"$directory/$1.gotest.json"
}

# suite_main ARGUMENT…: calls what the file defines
suite_main() {
    case $1 in
        install) install_suite ;;
        run)
            directory=$2
            run_suite
            ;;
        *) echo "usage: $0 install | run DIRECTORY" >&2 && exit 64 ;;
    esac
}
