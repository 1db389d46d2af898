"""What holds for every test."""

import signal

# Whoever is started in the background without job control ignores Ctrl-C, and so do all programs that it starts:
# those that are sent one here would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
