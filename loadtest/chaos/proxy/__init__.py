"""The fault proxy: a TCP and UNIX socket proxy that can be told, while it runs, to be slow, narrow, deaf or gone.

It goes by the names and the HTTP interface of Toxiproxy 2, so that whatever can drive one can drive the other. One
toxic is its own: `cut_reply`, after which nobody knows whether a request was carried out.
"""
