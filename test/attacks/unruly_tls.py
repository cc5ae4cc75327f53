"""TLS as no decent library speaks it: OpenSSL by its C interface, for records that Python's `ssl` does not send."""

import ctypes
import ctypes.util
import functools

POINTER, INT = ctypes.c_void_p, ctypes.c_int
FUNCTIONS = {
    "ssl": {
        "TLS_method": (POINTER,), "SSL_CTX_new": (POINTER, POINTER), "SSL_CTX_free": (None, POINTER),
        "SSL_CTX_use_certificate_chain_file": (INT, POINTER, ctypes.c_char_p),
        "SSL_CTX_use_PrivateKey_file": (INT, POINTER, ctypes.c_char_p, INT),
        "SSL_new": (POINTER, POINTER), "SSL_free": (None, POINTER), "SSL_set_fd": (INT, POINTER, INT),
        "SSL_connect": (INT, POINTER), "SSL_accept": (INT, POINTER), "SSL_get_version": (ctypes.c_char_p, POINTER),
        "SSL_set0_wbio": (None, POINTER, POINTER), "SSL_key_update": (INT, POINTER, INT), "SSL_do_handshake": (INT, POINTER),
    },
    "crypto": {"BIO_new": (POINTER, POINTER), "BIO_s_mem": (POINTER,), "BIO_read": (INT, POINTER, ctypes.c_char_p, INT)},
}
KEY_UPDATE_OCTETS = 27


@functools.cache
def openssl():
    """Every function in FUNCTIONS, typed, by its name."""
    found = {}
    for library, functions in FUNCTIONS.items():
        loaded = ctypes.CDLL(ctypes.util.find_library(library))
        for name, (result, *arguments) in functions.items():
            found[name] = getattr(loaded, name)
            found[name].restype, found[name].argtypes = result, arguments
    return type("OpenSsl", (), {name: staticmethod(function) for name, function in found.items()})


class UnrulyTls:
    """TLS 1.3 on a blocking socket: as a client, or as a server with certificate and key (files)."""

    def __init__(self, link, pair=None):
        link.settimeout(None)
        c = openssl()
        self.context = c.SSL_CTX_new(c.TLS_method())
        if pair:
            c.SSL_CTX_use_certificate_chain_file(self.context, str(pair[0]).encode())
            c.SSL_CTX_use_PrivateKey_file(self.context, str(pair[1]).encode(), 1)
        self.ssl = c.SSL_new(self.context)
        c.SSL_set_fd(self.ssl, link.fileno())
        assert (c.SSL_accept if pair else c.SSL_connect)(self.ssl) == 1
        assert c.SSL_get_version(self.ssl) == b"TLSv1.3"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        openssl().SSL_free(self.ssl)
        openssl().SSL_CTX_free(self.context)

    def key_updates(self, count):
        """So many KeyUpdate records, to be sent as they are; afterwards this end can say nothing else."""
        c = openssl()
        made = c.BIO_new(c.BIO_s_mem())
        c.SSL_set0_wbio(self.ssl, made)
        for _ in range(count):
            c.SSL_key_update(self.ssl, 0)
            c.SSL_do_handshake(self.ssl)
        records = ctypes.create_string_buffer(KEY_UPDATE_OCTETS * count)
        assert c.BIO_read(made, records, len(records)) == len(records)
        return records.raw
