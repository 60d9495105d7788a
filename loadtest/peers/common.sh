# What the scripts of all servers share; they read it with `.`.
#
# usage: NAME install | start FOLDER | stop FOLDER | status FOLDER | ports FOLDER | durability | version
#
# `start` makes FOLDER if need be, writes the configuration into it, starts an instance that lives in it, and prints
# its ports; mail that an earlier start left there is kept. `stop` ends it by the number that `start` left, and only
# if that number still is a process of this FOLDER. Nothing listens outside of loopback, nothing reads or writes the
# system's own configuration. The environment says what is wanted:
#
#   PEER_ADDRESS   loopback address to listen on; each script has one of its own
#   PEER_MODE      accept (keep what comes, send nothing), relay (send it to PEER_SINK) or mailbox (deliver it)
#   PEER_SINK      host:port that relayed mail goes to
#   PEER_ACCOUNTS  accounts user0@load.test, user1@load.test, ... (100)
#   PEER_NAMES     more accounts of this domain
#   PEER_DOMAIN    another domain than load.test
#   PEER_PASSWORD  the password of all accounts (a password for the load)
#   PEER_SETTINGS  lines for the end of the configuration, where they replace what is there (Postfix, Dovecot)
#   PEER_HASH      password hash that all accounts have; without it the cheapest that the server knows
#   PEER_CORES     threads of servers that are told a number (all cores)
#   PEER_CPUS      processors to run on, as taskset(1) takes them (all)
#   PEER_FSYNC     yes (the default) or no, which is for filling mailboxes alone
#   PEER_LOG       yes: log into the folder what happens to each message (no: mistakes alone)
#   PEER_CONNECTIONS  connections that must be possible at once (1200)

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mode=${PEER_MODE:-mailbox}
sink=${PEER_SINK:-127.71.9.1:2525}
accounts=${PEER_ACCOUNTS:-100}
cores=${PEER_CORES:-$(nproc)}
fsync=${PEER_FSYNC:-yes}
connections=${PEER_CONNECTIONS:-1200}
password=${PEER_PASSWORD:-a password for the load}
domain=${PEER_DOMAIN:-load.test}
arch=$(uname -m)-linux-gnu

smtp_port=2525 smtps_port=2465 imap_port=2143 imaps_port=2993 pop3_port=2110 pop3s_port=2995

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "needs root: the server changes to users of its own"
}

# Installs Debian packages; their services are kept from starting on ports 25 and 143, now and at the next boot.
install_packages() { # SERVICE PACKAGE...
    local service=$1
    shift
    dpkg -s "$@" >/dev/null 2>&1 && return
    need_root
    mkdir -p /etc/systemd/system
    [ -e "/etc/systemd/system/$service.service" ] || ln -s /dev/null "/etc/systemd/system/$service.service"
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null || { [ -z "$made" ] || rm -f $policy; return 1; }
    [ -z "$made" ] || rm -f $policy
}

# Debian lets one mail transport agent be installed at a time. The second and third are unpacked beside it, and only
# the libraries that they need are installed.
unpacked=${PEER_CACHE:-/var/cache/mail-peers}

unpack_package() { # PACKAGE
    local package=$1 folder
    [ -d "$unpacked/$package/usr" ] && return
    need_root
    apt-get update -qq
    apt-cache depends "$package" | awk '$1 == "Depends:" && $2 ~ /^lib/ { print $2 }' |
        DEBIAN_FRONTEND=noninteractive xargs apt-get install -qq -y --no-install-recommends openssl >/dev/null
    folder=$(mktemp -d)
    chmod 755 "$folder"
    (cd "$folder" && apt-get download -qq "$package" 2>/dev/null)
    mkdir -p "$unpacked/$package"
    dpkg -x "$folder"/*.deb "$unpacked/$package"
    rm -rf "$folder"
}

make_user() { # NAME
    getent passwd "$1" >/dev/null && return
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}

# The same kind of key for everyone: ECDSA on P-256, the cheapest for a server.
make_certificate() { # FOLDER
    [ -e "$1/key.pem" ] && return
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=mail.$domain" \
        -addext "subjectAltName=DNS:localhost,IP:$address" -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
}

# Only a process whose command line or environment names the folder is ours to end.
is_ours() { # PID
    grep -qzF -- "$folder" "/proc/$1/cmdline" "/proc/$1/environ" 2>/dev/null
}

read_pid() {
    [ -e "$folder/pid" ] && cat "$folder/pid"
}

# Runs the server apart from this shell: no pipe of whoever waits for the script stays open in it.
launch() { # COMMAND...
    local port
    for port in $smtp_port $imap_port; do
        if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then
            die "something listens on $address:$port already"
        fi
    done
    [ -z "${PEER_CPUS:-}" ] || set -- taskset -c "$PEER_CPUS" "$@"
    launched=$EPOCHREALTIME
    setsid "$@" </dev/null >"$folder/said" 2>&1 &
    echo $! >"$folder/pid"
}

# Until the first greeting, and says how long that took since the launch.
wait_for_greeting() { # PORT
    local patience=$((SECONDS + 60)) now
    until [ -n "$(greeting "$1")" ]; do
        [ $SECONDS -lt $patience ] && [ -d "/proc/$(read_pid)" ] || die "no greeting from $address:$1; see $folder"
        sleep 0.002
    done
    now=$EPOCHREALTIME
    echo "started_us $((${now/./} - ${launched/./}))"
}

# Nothing, if nobody listens. A failed `exec` would end this shell, so it happens in another.
greeting() { # PORT
    { exec 3<>"/dev/tcp/$address/$1"; } 2>/dev/null || return 0
    local line
    read -r -t 30 line <&3 || return 0
    echo "$line"
}

# SIGTERM, and SIGKILL where ten seconds do not suffice. PEER_KILL=yes is a crash: SIGKILL to the whole tree.
end_process() {
    local pid
    pid=$(read_pid) || return 0
    if is_ours "$pid"; then
        if [ "${PEER_KILL:-no}" = yes ]; then
            tree "$pid" | xargs -r kill -KILL 2>/dev/null || true
        else
            kill -TERM "$pid"
        fi
        local tries=0
        while [ -d "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do
            tries=$((tries + 1))
            [ $tries -ne 1000 ] || kill -KILL "$pid" 2>/dev/null || true
            [ $tries -lt 1500 ] || die "process $pid does not end"
            sleep 0.01
        done
    fi
    rm -f "$folder/pid"
}

tree() { # PID
    echo "$1"
    local child
    for child in $(cat "/proc/$1/task"/*/children 2>/dev/null); do
        tree "$child"
    done
}

main() {
    local verb=${1:-}
    folder=${2:-}
    case $verb in
    install | durability | version) "$verb" ;;
    start)
        [ -n "$folder" ] || die "start FOLDER"
        mkdir -p "$folder"
        # Servers run as other users than the one who starts them.
        chmod 755 "$folder"
        folder=$(cd "$folder" && pwd)
        if read_pid >/dev/null && is_ours "$(read_pid)"; then
            die "it runs already, as process $(read_pid)"
        fi
        ulimit -n "$(ulimit -Hn)"
        start
        ports
        ;;
    stop | status | ports)
        [ -d "$folder" ] || die "$verb FOLDER"
        folder=$(cd "$folder" && pwd)
        "$verb"
        ;;
    *) die "usage: install | start FOLDER | stop FOLDER | status FOLDER | ports FOLDER | durability | version" ;;
    esac
}

stop() { end_process; }

status() {
    local pid
    pid=$(read_pid) && is_ours "$pid" && echo "runs as process $pid" && return
    echo "does not run"
    return 1
}
