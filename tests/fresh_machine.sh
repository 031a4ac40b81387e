#!/usr/bin/env bash
# What the README promises, on a machine that has nothing: `make` and `make test` of a clone of this
# repository's last commit, by an ordinary user of a bare Debian with git, make and Python only.
#
#     tests/fresh_machine.sh bookworm trixie     # as root; half an hour and 8 GB each, all removed
#
# Debian comes from debootstrap and this machine's own mirror; pip is configured as it is here.
set -euo pipefail

PACKAGES=git,make,python3,python3-venv,ca-certificates
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
USER_HOME=/home/fresh

# Prints this machine's configuration of pip, one NAME=value a line; its environment comes last.
pip_configuration() {
    python3 -m pip config list | python3 -c '
import ast, re, sys
for line in sorted(sys.stdin, key=lambda line: line.startswith(":env:")):
    name, value = re.fullmatch(r"(?:global|install|:env:)\.([\w-]+)=(.*)\n", line).groups()
    words = " ".join(ast.literal_eval(value).split())
    print("PIP_" + name.upper().replace("-", "_") + "=" + words)'
}

# Makes the files and folders that the configuration of pip names appear at the same place in $1:
# of an index, which is a folder of pages, also what lies beside it, where the pages' links lead.
lend_files() {
    local root=$1 word
    pip_configuration | sed 's/^[^=]*=//' | tr ' ' '\n' |
        sed 's,^file://\(/..*\)/[^/][^/]*/*$,\1,' | grep '^/' | sort -u |
        while read -r word; do
            if [ -d "$word" ]; then
                mkdir -p "$root$word" && mount --bind -o ro "$word" "$root$word"
            elif [ -f "$word" ]; then
                install -D -m 644 "$word" "$root$word"
            fi
        done
}

# Runs a command line in the machine $1 as its user, with nothing of this machine's environment
# but its way to the network.
as_user() {
    local root=$1 line=$2 settings=() name
    mapfile -t settings < <(pip_configuration)
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!name:-}" ] || settings+=("$name=${!name}")
    done
    chroot --userspec=fresh:fresh "$root" env -i HOME="$USER_HOME" PATH=/usr/local/bin:/usr/bin:/bin \
        "${settings[@]}" sh -c "cd && $line" </dev/null
}

# Makes a bare Debian in $1.
bare_debian() {
    local root=$1 mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' | sed -n 1p)
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    http_proxy=${http_proxy:-} debootstrap --variant=minbase --include="$PACKAGES" \
        "$SUITE" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 || { tail "$root.log"; return 1; }
}

# Says what it does, does it and says how it ended.
step() {
    local began=$SECONDS status=0
    echo "== $SUITE: $1"
    "${@:2}" || status=$?
    echo "== $SUITE: $1: $([ $status = 0 ] && echo done || echo "FAILED with status $status")," \
        "$((SECONDS - began)) s" | tee -a "$OUTCOMES"
    return $status
}

# One machine, in namespaces of its own: whatever it mounts and starts ends with it.
machine() {
    local root=$1
    step "a bare Debian" bare_debian "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    lend_files "$root"
    chroot "$root" useradd --create-home --home-dir "$USER_HOME" fresh
    git -C "$HERE" bundle create -q "$root/tmp/gradprop.bundle" --all
    as_user "$root" 'git -c init.defaultBranch=main clone -q /tmp/gradprop.bundle gradprop && python3 --version'
    step "make" as_user "$root" 'cd gradprop && make'
    step "make test" as_user "$root" 'cd gradprop && make test'
}

if [ $# = 0 ] || [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
    echo "usage: $0 bookworm|trixie ... (as root; needs debootstrap)" >&2
    exit 2
fi

WORK=$(mktemp -d)
OUTCOMES=$WORK/outcomes
trap 'rm -rf --one-file-system "$WORK"' EXIT
export PACKAGES HERE USER_HOME OUTCOMES SUITE
export -f bare_debian pip_configuration lend_files as_user step machine
failed=0
for SUITE in "$@"; do
    mkdir "$WORK/$SUITE"
    unshare --mount --pid --fork --kill-child --mount-proc \
        bash -euo pipefail -c 'machine "$1"' - "$WORK/$SUITE" || failed=1
    rm -rf --one-file-system "${WORK:?}/$SUITE"
done
cat "$OUTCOMES"
exit $failed
