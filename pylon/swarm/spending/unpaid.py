"""The lasting reasons for not paying: those that stay until somebody does something about them, in words."""

from pylon.money.limits import Limit
from pylon.money.payment import Refusal
from pylon.money.wallet import WalletCode
from pylon.swarm.providers.lack import STOPPED, UNFUNDED, limited

OTHER_PAYEE = (
    f"not paid, because asking to be paid at a different node ({Refusal.PAYEE_CHANGED.value}): "
    "`pylon wallet trust-payee`"
)
# By code: reasons that somebody has to do something about, or that outlast most runs. Any other reason may have
# passed when the invoice expires, and is waited for.
LASTING: dict[str, str] = {
    WalletCode.INSUFFICIENT_BALANCE: UNFUNDED,
    Refusal.STOPPED: STOPPED,
    Refusal.PAYEE_CHANGED: OTHER_PAYEE,
    **{
        code: limited(code)
        for code in (Limit.PAYMENT, Limit.FEE, Limit.JOB, Limit.DAY, Limit.RUN, Limit.ALL, WalletCode.QUOTA_EXCEEDED)
    },
    **{
        code: f"not paid ({code.value})"
        for code in (
            Refusal.NOT_LIVE, Refusal.FEES, WalletCode.RESTRICTED, WalletCode.UNAUTHORIZED,
            WalletCode.NOT_IMPLEMENTED, WalletCode.UNSUPPORTED_ENCRYPTION, WalletCode.WRONG_NETWORK,
        )
    },
}  # fmt: skip
