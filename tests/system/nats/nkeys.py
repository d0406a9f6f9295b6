"""Keys and tokens of NATS, made for tests: Ed25519 as RFC 8032 describes it, nkeys' text, JWTs of version 2."""
import base64, hashlib, json, os, time

P = 2 ** 255 - 19
L = 2 ** 252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202,
        46316835694926478169428394003475163141307993866256225615783033603165251855960, 1)
BASE += (BASE[0] * BASE[1] % P,)
KINDS = {"O": 14 << 3, "A": 0, "U": 20 << 3}


# Points are (X, Y, Z, T): x = X / Z, y = Y / Z, x y = T / Z (RFC 8032, section 5.1.4).
def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, point):
    out = (0, 1, 1, 0)
    while n:
        if n & 1:
            out = add(out, point)
        point = add(point, point)
        n >>= 1
    return out


def packed(point):
    z = pow(point[2], P - 2, P)
    return (point[1] * z % P | (point[0] * z % P & 1) << 255).to_bytes(32, "little")


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    return crc


def text(raw):
    return base64.b32encode(raw + crc16(raw).to_bytes(2, "little")).decode().rstrip("=")


def b64(raw):
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Key:
    """.public, .seed (texts), sign(bytes), token(subject's public key, claims)."""

    def __init__(self, kind):
        seed = os.urandom(32)
        h = hashlib.sha512(seed).digest()
        self.a = int.from_bytes(h[:32], "little") & (1 << 254) - 8 | 1 << 254
        self.prefix, self.raw = h[32:], packed(times(self.a, BASE))
        self.public = text(bytes([KINDS[kind]]) + self.raw)
        first = 18 << 3
        self.seed = text(bytes([first | KINDS[kind] >> 5, (KINDS[kind] & 31) << 3]) + seed)

    def sign(self, what):
        r = int.from_bytes(hashlib.sha512(self.prefix + what).digest(), "little") % L
        big = packed(times(r, BASE))
        k = int.from_bytes(hashlib.sha512(big + self.raw + what).digest(), "little") % L
        return big + ((r + k * self.a) % L).to_bytes(32, "little")

    def token(self, subject, kind, nats=None, **claims):
        body = {"jti": "x", "iat": int(time.time()), "iss": self.public, "sub": subject,
                "nats": {"type": kind, "version": 2, **(nats or {})}, **claims}
        what = b64(b'{"typ":"JWT","alg":"ed25519-nkey"}') + "." + b64(json.dumps(body).encode())
        return what + "." + b64(self.sign(what.encode()))
