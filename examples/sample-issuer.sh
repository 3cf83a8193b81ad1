# A token issuer made of openssl and a static file, for trying things out. Source it:
#
#   . examples/sample-issuer.sh
#   issuer_start one 3001          # serves its public key at http://127.0.0.1:3001/public.pem
#   TOKEN=$(issuer_token one 3001) # a token of issuer http://127.0.0.1:3001, valid for five minutes
#   issuer_rotate one              # another key under the same address

issuer_start() {
  mkdir -p "$1"
  python3 -m http.server "$2" --bind 127.0.0.1 --directory "$1" >/dev/null 2>&1 &
  issuer_rotate "$1"
}

issuer_rotate() {
  openssl genrsa -out "$1.pem" 2048 2>/dev/null
  openssl rsa -in "$1.pem" -pubout -out "$1/public.pem" 2>/dev/null
}

issuer_token() {
  issuer_part=$(printf '{"alg":"RS256"}' | issuer_base64).$(
    printf '{"iss":"http://127.0.0.1:%s","sub":"you","exp":%d}' "$2" "$(($(date +%s) + 300))" | issuer_base64
  )
  printf '%s.%s\n' "$issuer_part" "$(printf %s "$issuer_part" | openssl dgst -sha256 -sign "$1.pem" -binary | issuer_base64)"
}

issuer_base64() {
  openssl base64 -A | tr '+/' '-_' | tr -d '='
}
