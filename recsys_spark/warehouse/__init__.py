"""Delta tables and files: declared, written, checked, listed; ledgers, blobs, scratch, locks, object stores."""
