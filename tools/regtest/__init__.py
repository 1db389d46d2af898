"""`scripts/regtest`: real Lightning on this machine alone, on a private chain whose coins are worth nothing.

A Bitcoin node, an Electrum server and two Lightning wallets with a channel between them, and a relay over which each
wallet is reached by Nostr Wallet Connect. Everything listens on loopback only and lies in one folder.

    up       fetch what is missing, start what does not run, make the channel the first time
    down     stop it; --remove also removes the folder
    status   what runs, and where the wallets' links are
"""
