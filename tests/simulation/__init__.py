"""A ledger in one process, where one number decides everything that happens: who fails when, and who lies.

    python -m tests.simulation [--seeds 300] [--from 0] [--processes 1] [--json]
    python -m tests.simulation --seed N [--verbose]

Real are the rules: PeerRule over a copy in memory, Anchoring with Anchor and TipPoll, next_block, sign_block, every
message and every Ed25519 signature. Simulated are the clock, the network, the disks and the power. Peers and gateways
that lie are written here. A seed is one run: weather, power cuts, partitions, backups; then all heals, and whoever is
honest has to come to an end in time. After every step the promises of `tests.simulation.promises` are checked.

Exit code: 0 every promise was kept, 1 one was broken (then the seed, the promise and the last steps are told, and the
same seed does it again), 2 a wrong argument.
"""
