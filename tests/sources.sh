# Source packages of the distribution; what sources this sets `cache`.
# shellcheck shell=bash disable=SC2154

# apt, asked for sources in places of its own, so that the system's lists stay as they are.
apt_of_sources() {
    local apt="$cache/apt"
    apt-get -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt/parts" \
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User= "$@"
}

# Writes the distribution's own entries, whoever serves them, as entries for sources.
source_entries() {
    local parts="$cache/apt/parts" codename file
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    mkdir -p "$parts" "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial"
    rm -f "$parts"/*
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        awk -v RS= -v ORS='\n\n' -v codename="$codename" '
            match($0, /Suites:[^\n]*/) && index(substr($0, RSTART, RLENGTH), " " codename) {
                sub(/Types:[^\n]*/, "Types: deb-src")
                print
            }' "$file"
    done >"$parts/entries.sources"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$file" ] || continue
        sed -nE "s/^deb( .* $codename(-[a-z]+)? .*)/deb-src\1/p" "$file"
    done >"$parts/entries.list"
}

# apt_versions PACKAGE: the versions whose sources are on the lists, newest first
apt_versions() {
    local apt="$cache/apt"
    apt-cache -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt/parts" \
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" \
        showsrc --only-source "$1" 2>/dev/null | sed -n 's/^Version: //p' | sort -rV | uniq
}
