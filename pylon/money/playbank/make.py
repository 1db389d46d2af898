"""Makes BOLT-11 invoices, for the playbank: other wallets make their own."""

import bolt11
from bolt11.models.features import Feature, FeatureState
from bolt11.models.tags import TagChar

from pylon.money.msat import Msat
from pylon.nostr.keys import SecretKey

MIN_FINAL_CLTV = 18
MAX_DESCRIPTION = 300


def make_invoice(
    key: SecretKey,
    *,
    currency: str,
    amount: Msat,
    payment_hash: bytes,
    payment_secret: bytes,
    description: str,
    created_at: int,
    expiry_s: int,
) -> str:
    """A BOLT-11 invoice, signed by `key`, which is its payee. Descriptions are cut to 300 characters."""
    tags = bolt11.Tags()
    tags.add(TagChar.payment_hash, payment_hash.hex())
    tags.add(TagChar.payment_secret, payment_secret.hex())
    tags.add(TagChar.description, description[:MAX_DESCRIPTION] or "-")
    tags.add(TagChar.expire_time, expiry_s)
    tags.add(TagChar.min_final_cltv_expiry, MIN_FINAL_CLTV)
    tags.add(
        TagChar.features,
        bolt11.Features.from_feature_list(
            {Feature.var_onion_optin: FeatureState.required, Feature.payment_secret: FeatureState.required}
        ),
    )
    unsigned = bolt11.Bolt11(currency=currency, amount_msat=bolt11.MilliSatoshi(amount), date=created_at, tags=tags)
    return str(bolt11.encode(unsigned, key.secret_bytes.hex()))
