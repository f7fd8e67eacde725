#!/bin/sh
# A test authority for Dask over TLS: one CA, one certificate for scheduler, workers and client.
#
#   authority.sh DIR [HOST...]
#
# DIR gets ca.pem, cert.pem, key.pem (readable by its owner only) and dask-tls.yaml, the Dask
# configuration that requires encryption with them. The certificate names localhost, 127.0.0.1, ::1
# and every HOST (a name or an address). The CA's own key is deleted at the end: nothing further can
# be signed by it, and another certificate takes another authority. Whoever holds key.pem can run
# code on the cluster: copy it as you would a password. Valid for DAYS days (environment; 30).
set -eu

fail() {
    echo "authority.sh: $1" >&2
    exit 1
}

[ $# -ge 1 ] || fail "usage: authority.sh DIR [HOST...]"
command -v openssl >/dev/null || fail "openssl is not installed"

directory=$1
shift
days=${DAYS:-30}
case $days in
    '' | *[!0-9]*) fail "DAYS is '$days'; give a whole number of days" ;;
esac

umask 077
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
case $directory in
    *\'*) fail "DIR '$directory' has a quote in it; choose another" ;;
esac
for file in ca.pem cert.pem key.pem dask-tls.yaml; do
    [ ! -e "$directory/$file" ] || fail "$directory/$file exists; choose another DIR or remove it"
done

names="DNS:localhost,IP:127.0.0.1,IP:::1"
for host in "$@"; do
    case $host in
        '' | *[!A-Za-z0-9.:*_-]*) fail "HOST '$host' is neither a name nor an address" ;;
        *:*) names="$names,IP:$host" ;;
        *[!0-9.]*) names="$names,DNS:$host" ;;
        *) names="$names,IP:$host" ;;
    esac
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

cat >"$scratch/ca.cnf" <<END
[req]
distinguished_name = name
prompt = no
x509_extensions = authority
[name]
CN = msiscale test authority
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
cat >"$scratch/leaf.cnf" <<END
[req]
distinguished_name = name
prompt = no
[name]
CN = msiscale cluster
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $names
END

quietly() { # openssl's progress is shown only when it failed
    "$@" >"$scratch/log" 2>&1 || {
        cat "$scratch/log" >&2
        fail "openssl failed (above)"
    }
}

curve="-algorithm EC -pkeyopt ec_paramgen_curve:P-256"
# shellcheck disable=SC2086  # $curve is several words on purpose
quietly openssl genpkey $curve -out "$scratch/ca.key"
# shellcheck disable=SC2086
quietly openssl genpkey $curve -out "$scratch/key.pem"
quietly openssl req -x509 -new -sha256 -key "$scratch/ca.key" -days "$days" \
    -config "$scratch/ca.cnf" -out "$scratch/ca.pem"
quietly openssl req -new -sha256 -key "$scratch/key.pem" \
    -config "$scratch/leaf.cnf" -out "$scratch/leaf.csr"
quietly openssl x509 -req -sha256 -in "$scratch/leaf.csr" -days "$days" \
    -CA "$scratch/ca.pem" -CAkey "$scratch/ca.key" -CAcreateserial \
    -extfile "$scratch/leaf.cnf" -extensions leaf -out "$scratch/cert.pem"
quietly openssl verify -CAfile "$scratch/ca.pem" "$scratch/cert.pem"

cat >"$scratch/dask-tls.yaml" <<END
# Dask over TLS: point DASK_CONFIG at this file, or put it into ~/.config/dask.
distributed:
  comm:
    default-scheme: tls
    require-encryption: true
    tls:
      ca-file: '$directory/ca.pem'
      scheduler:
        cert: '$directory/cert.pem'
        key: '$directory/key.pem'
      worker:
        cert: '$directory/cert.pem'
        key: '$directory/key.pem'
      client:
        cert: '$directory/cert.pem'
        key: '$directory/key.pem'
END

chmod 644 "$scratch/ca.pem" "$scratch/cert.pem" "$scratch/dask-tls.yaml"
for file in key.pem ca.pem cert.pem dask-tls.yaml; do
    mv "$scratch/$file" "$directory/$file"
done
echo "$directory/dask-tls.yaml"
