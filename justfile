# Comfort for contributors. Nothing depends on `just`: each recipe is one line that works without it.

# Everything green?
check:
    ./dev check

# All tests
test:
    ./dev test

# Tests of one package: just t tidegate-policy
t PACKAGE *ARGS:
    cargo nextest run --locked -p {{PACKAGE}} {{ARGS}}

# The platform in the foreground
run *ARGS:
    cargo run --locked -p tidegate -- up {{ARGS}}

# The story
demo *ARGS:
    ./dev demo {{ARGS}}

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

docs:
    cargo doc --workspace --no-deps --locked

bench *ARGS:
    ./dev bench {{ARGS}}
