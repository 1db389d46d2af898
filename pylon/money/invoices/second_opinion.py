"""A second reading of an invoice that is about to be paid, by the library `bolt11`.

We judge what we read in an invoice, and the wallet pays what it reads there. Should our reading ever be wrong, more
could be paid than was judged, or to somebody else. So nothing is paid that another reader does not read as we do.
"""

from pylon.money.invoices.invoice import Invoice, InvoiceCode, InvoiceError


def confirm(invoice: Invoice) -> None:
    """Raises `InvoiceError` unless the library reads the invoice as `decode` did. It takes milliseconds."""
    # Imported late: with its bit strings it takes megabytes, and most nodes never pay.
    import bolt11

    try:
        read = bolt11.decode(invoice.text)
        theirs = (read.currency, read.amount_msat, read.payment_hash, read.payee, read.date)
    except Exception as error:
        # The library raises at least five kinds.
        raise InvoiceError(
            InvoiceCode.DECODERS_DISAGREE, f"a second reading of the invoice failed ({type(error).__name__})"
        ) from error
    if theirs != (invoice.currency, invoice.amount, invoice.payment_hash, invoice.payee, invoice.created_at):
        raise InvoiceError(InvoiceCode.DECODERS_DISAGREE, "two readings of the invoice differ")
