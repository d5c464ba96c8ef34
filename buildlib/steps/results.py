"""Results of steps in a store: found by key, kept by key.

Knows products and the store's protocol. Does not know which store it is, nor what a key was made from.
"""

from collections.abc import Collection, Iterable

from buildlib.steps.workshop import Product
from buildlib.store.directory import Blob, Store, StoredFile


def fetch(store: Store | None, keys: Iterable[str]) -> list[Product] | None:
    """Return the products of the first of `keys` that the store has whole and verified; None if it has none."""
    for key in keys:
        files = store.get_result(key) if store is not None else None
        products = [p for f in files or () if (p := _product(store, f)) is not None]
        if files and len(products) == len(files):
            return products
    return None


def _product(store: Store | None, file: StoredFile) -> Product | None:
    data = store.get_blob(Blob(file.sha256, file.size)) if store is not None else None
    return Product(file.path, data, file.executable) if data is not None else None


def keep(store: Store | None, keys: Collection[str], products: Iterable[Product]) -> None:
    """Offer `products` to the store under each of `keys`; a store that cannot take them is no error."""
    if store is None or not keys:
        return
    files = []
    for product in products:
        blob = store.put_blob(product.data)
        if blob is None:
            return
        files.append(StoredFile(product.name, blob.sha256, blob.size, product.executable))
    for key in keys:
        store.put_result(key, files)
