"""What a Ray cluster on this machine needs to have TLS and a token switched on."""

import os
import secrets
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(subject, public_key, issuer, issuer_key, *extensions):
    name = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]
    issuer_name = [x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(name))
        .issuer_name(x509.Name(issuer_name))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def environment(folder, address):
    """Write keys and certificates for a node with this IP address; give the variables."""
    root, node = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.BasicConstraints(ca=True, path_length=None)
    names = x509.SubjectAlternativeName(
        [x509.IPAddress(ip_address(a)) for a in sorted({address, "127.0.0.1"})]
        + [x509.DNSName("localhost")]
    )
    key = node.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "ca.crt").write_bytes(certificate("ray", root.public_key(), "ray", root, authority))
    (folder / "node.crt").write_bytes(certificate("node", node.public_key(), "ray", root, names))
    (folder / "node.key").write_bytes(key)
    (folder / "token").write_text(secrets.token_hex(32))
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(folder / "node.crt"),
        "RAY_TLS_SERVER_KEY": str(folder / "node.key"),
        "RAY_TLS_CA_CERT": str(folder / "ca.crt"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }


def shake_hands(address):
    """Fail unless a node's port speaks TLS with a certificate of the environment's authority."""
    context = ssl.create_default_context(cafile=os.environ["RAY_TLS_CA_CERT"])
    context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        assert secured.version()
