"""A second reader of the repository format, written from docs/FORMAT.md alone.

It shares no code with the crate. It opens the worked example from its files to its rows, opens or refuses the
sealed vectors, and makes anew the trees and cuts of stream A. Needs: pip install blake3 cryptography zstandard.
Run: python3 repo-format/tests/reader.py [path of FORMAT.md]
"""

import hashlib
import pathlib
import re
import struct
import sys

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
import zstandard

ROOT = bytes(range(32))
LEAF, NODE, PIECE, LIST, FILE = 1, 2, 3, 4, 64


class Refused(Exception):
    pass


def need(condition, why):
    if not condition:
        raise Refused(why)


# 2. Conventions
def keyed(key, message, length=32):
    return blake3(message, key=key).digest(length=length)


def derive(context, material):
    return blake3(material, derive_key_context="dbsnap 2026-11 v0 " + context).digest()


def put_varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self, most=2**64 - 1):
        value, start = 0, self.at
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * (self.at - start - 1))
            if byte < 0x80:
                break
        need(value <= most and put_varint(value) == self.data[start : self.at], "varint")
        return value

    def finish(self):
        need(self.at == len(self.data), "bytes after the end")


def cbor(cursor):
    """The canonical subset that the document allows; maps become dictionaries."""
    head = cursor.take(1)[0]
    major, low = head >> 5, head & 31
    if major == 7:
        need(low in (20, 21), "a simple value")
        return low == 21
    need(low < 28, "no stated length")
    value = low if low < 24 else int.from_bytes(cursor.take(1 << (low - 24)), "big")
    need(low < 24 or value >= (24, 2**8, 2**16, 2**32)[low - 24], "not the shortest")
    if major == 0:
        return value
    if major == 1:
        return -1 - value
    if major == 2:
        return cursor.take(value)
    if major == 3:
        return cursor.take(value).decode("utf-8")
    if major == 4:
        return [cbor(cursor) for _ in range(value)]
    need(major == 5, "a tag")
    pairs = [(cbor(cursor), cbor(cursor)) for _ in range(value)]
    need([key for key, _ in pairs] == sorted({key for key, _ in pairs}), "keys out of order")
    return dict(pairs)


def whole_cbor(data):
    cursor = Cursor(data)
    value = cbor(cursor)
    cursor.finish()
    return value


# 5 to 7. Slots, keys, frames
class Keys:
    def __init__(self, root):
        self.root = root
        names = {"id": "object id", "cut": "leaf cut", "node": "node cut", "gear": "piece gear", "row": "row key"}
        for name, context in names.items():
            setattr(self, name, derive(context, root))
        self.commitment = derive("commitment", root)

    def seal(self, epoch):
        return derive("seal", self.root + epoch.to_bytes(4, "little"))

    def object_id(self, kind, plaintext):
        return keyed(self.id, bytes([kind]) + plaintext)


def open_slot(data, repository, slot, unlocking):
    need(data[:9] == b"dbsnapSL\0" and data[9:10] in (b"\1", b"\2", b"\3") and len(data) >= 166, "not a slot")
    data, check = data[:-16], data[-16:]
    check_kms_part(data[150:]) if data[9] == 3 else need(len(data) == 150, "longer")
    need(data[10:26] == repository, "another repository")
    need(data[26:58] == derive("slot commitment", unlocking + slot), "another key")
    cipher = AESGCMSIV(derive("slot wrap", unlocking + slot))
    root = unseal(cipher, data[90:102], data[102:150], data[:90] + slot + data[150:])
    need(data[58:90] == Keys(root).commitment, "another root")
    need(check == keyed(derive("slot check", root), data + slot)[:16], "another check")
    return Keys(root)


def check_kms_part(part):
    for most in (2048, 6144):
        length = int.from_bytes(part[:2], "little")
        need(len(part) >= 2 + length and length <= most, "a part of KMS")
        if most == 2048:
            try:
                part[2 : 2 + length].decode()
            except UnicodeDecodeError:
                raise Refused("not UTF-8") from None
        part = part[2 + length :]
    need(not part, "longer")


def unseal(cipher, nonce, data, associated):
    try:
        return cipher.decrypt(nonce, data, associated)
    except InvalidTag:
        raise Refused("does not open") from None


def open_frame(keys, repository, kind, identity, data):
    need(len(data) >= 39 and data[0] == 0 and data[1] <= 1 and data[2] == kind, "header")
    plain_len = int.from_bytes(data[7:11], "little")
    need(plain_len <= 1 << 24, "plain length")
    associated = bytes([0]) + repository + bytes([kind]) + identity + data[7:11] + data[1:2] + data[3:7]
    cipher = AESGCMSIV(keys.seal(int.from_bytes(data[3:7], "little")))
    body = unseal(cipher, data[11:23], data[23:], associated)
    if data[1] == 1:
        try:
            body = zstandard.ZstdDecompressor().decompress(body, max_output_size=plain_len)
        except zstandard.ZstdError:
            raise Refused("does not decompress") from None
    need(len(body) == plain_len, "another length")
    if kind != FILE:
        need(keys.object_id(kind, body) == identity, "another content")
    return body


def open_file(keys, repository, name, data):
    return open_frame(keys, repository, FILE, blake3(name.encode()).digest(), data)


# 8 to 11. Directories, trees, records
def read_directory(cursor):
    objects, offset = {}, 8
    for _ in range(cursor.varint(100_000)):
        object_id, kind = cursor.take(32), cursor.take(1)[0]
        length = cursor.varint((1 << 24) + 39)
        cursor.varint(1 << 24)
        need(1 <= kind <= 4, "kind")
        objects[object_id] = (offset, length)
        offset += length
    return objects


def read_keys(cursor, count):
    """Yields each key; the caller reads the rest of the entry before it asks for the next."""
    previous = None
    for _ in range(count):
        shared = cursor.varint(len(previous or b""))
        rest = cursor.take(cursor.varint(1032 - shared))
        key = (previous or b"")[:shared] + rest
        if previous is not None:
            need(key > previous and not (shared < len(previous) and previous[shared] == rest[0]), "keys")
        previous = key
        yield key


def read_leaf(data):
    cursor = Cursor(data)
    need(cursor.take(1) == b"\0", "level")
    count = cursor.varint()
    records = [(key, cursor.take(cursor.varint(1 << 24))) for key in read_keys(cursor, count)]
    cursor.finish()
    return records


def read_fields(value):
    cursor, fields = Cursor(value), []
    while cursor.at < len(value):
        tag = cursor.varint()
        if tag == 1:
            fields.append((cursor.varint(), cursor.take(1)[0], cursor.take(32)))
            need(fields[-1][1] <= 4, "depth")
        else:
            fields.append(None if tag == 0 else cursor.take(tag - 2))
    return fields


# 10.7. Key parts of MongoDB
BSON_CLASSES = {0xFF: 8, 6: 16, 10: 24, 1: 32, 16: 32, 18: 32, 19: 32, 2: 40, 14: 40, 3: 48, 4: 56, 5: 64, 7: 72, 8: 80}
BSON_CLASSES |= {9: 88, 17: 96, 11: 104, 12: 112, 13: 120, 15: 128, 0x7F: 248}
BSON_LENGTHS = {0xFF: 0, 0x7F: 0, 6: 0, 10: 0, 8: 1, 16: 4, 1: 8, 9: 8, 17: 8, 18: 8, 7: 12, 19: 16}


def bson_string(cursor):
    text = cursor.take(int.from_bytes(cursor.take(4), "little", signed=True))
    need(text[-1:] == b"\0", "a string without an end")
    return text[:-1]


def bson_name(cursor):
    name = b""
    while (byte := cursor.take(1)) != b"\0":
        name += byte
    return name


def bson_elements(cursor):
    """Yields type and name; the caller reads the value before it asks for the next."""
    start, length = cursor.at, int.from_bytes(cursor.take(4), "little")
    need(start + length <= len(cursor.data), "ends early")
    while (kind := cursor.take(1)[0]) != 0:
        yield kind, bson_name(cursor)
    need(cursor.at == start + length, "a length that does not fit")


def escaped(text):
    return text.replace(b"\0", b"\0\xff") + b"\0\1"


def number(sign, coefficient, exponent):
    """The form of (-1)^sign * coefficient * 10^exponent."""
    if coefficient == 0:
        return b"\4"
    digits = str(coefficient)
    exponent, digits = exponent + len(digits), digits.rstrip("0")
    pairs = [digits[i : i + 2].ljust(2, "0") for i in range(0, len(digits), 2)]
    out = (exponent + 2**15).to_bytes(2, "big") + bytes(int(pair) + 1 for pair in pairs) + b"\0"
    return b"\3" + bytes(byte ^ 0xFF for byte in out) if sign else b"\5" + out


def double(value):
    if value != value:
        return b"\1"
    if value in (float("inf"), float("-inf")):
        return b"\6" if value > 0 else b"\2"
    above, below = value.as_integer_ratio()
    power = below.bit_length() - 1
    return number(above < 0, abs(above) * 5**power, -power)


def decimal128(bits):
    sign = bits >> 127
    if bits >> 122 & 31 == 31:
        return b"\1"
    if bits >> 122 & 31 == 30:
        return b"\2" if sign else b"\6"
    coefficient = bits % 2**113
    if bits >> 125 & 3 == 3 or coefficient >= 10**34:
        coefficient = 0
    return number(sign, coefficient, (bits >> 113 & 0x3FFF) - 6176)


def bson_part(kind, cursor):
    """What follows the class byte of the value at the cursor."""
    need(kind in BSON_CLASSES, "a type that does not exist")
    if kind in (2, 13, 14):
        return escaped(bson_string(cursor))
    if kind == 5:
        length = cursor.take(4)
        return length[::-1] + cursor.take(1) + cursor.take(int.from_bytes(length, "little"))
    if kind == 11:
        return bson_name(cursor) + b"\0" + bson_name(cursor) + b"\0"
    if kind == 12:
        namespace = bson_string(cursor)
        return len(namespace).to_bytes(4, "big") + namespace + cursor.take(12)
    if kind in (3, 4):
        out = b""
        for inner, name in bson_elements(cursor):
            need(inner in BSON_CLASSES, "a type that does not exist")
            out += bytes([BSON_CLASSES[inner]]) + (name + b"\0" if kind == 3 else b"") + bson_part(inner, cursor)
        return out + b"\0"
    if kind == 15:
        start, length = cursor.at, int.from_bytes(cursor.take(4), "little")
        out = escaped(bson_string(cursor)) + bson_part(3, cursor)
        need(cursor.at == start + length, "a length that does not fit")
        return out
    value = cursor.take(BSON_LENGTHS[kind])
    if kind == 1:
        return double(struct.unpack("<d", value)[0])
    if kind in (16, 18):
        signed = int.from_bytes(value, "little", signed=True)
        return number(signed < 0, abs(signed), 0)
    if kind == 19:
        return decimal128(int.from_bytes(value, "little"))
    if kind == 9:
        return (int.from_bytes(value, "little", signed=True) + 2**63).to_bytes(8, "big")
    return value[::-1] if kind == 17 else value


def bson_key(data):
    cursor = Cursor(data)
    kind = cursor.take(1)[0]
    part = bson_part(kind, cursor)
    cursor.finish()
    return bytes([BSON_CLASSES[kind]]) + part


def document_key(keys, data):
    cursor = Cursor(data)
    for kind, name in bson_elements(cursor):
        start = cursor.at
        bson_part(kind, cursor)
        if name == b"_id":
            return bson_key(bytes([kind]) + data[start : cursor.at])
    return b"\1" + keyed(keys.row, data)


# 12. Writer rules
def gear_scan(s, n, table, low, avg, small, large):
    h = 0
    for i in range(low, n):
        h = (h * 2 + table[s[i]]) & (2**64 - 1)
        if h & (small if i < avg else large) == 0:
            return i
    return None


FASTCDC = [int.from_bytes(hashlib.md5(bytes([i]) * 64).digest()[:8], "big") for i in range(256)]


def cut_leaves(keys, records):
    """The leaves of a tree, as lists of records."""
    stream, owner = bytearray(), []
    for number, (key, value) in enumerate(records):
        length = len(put_varint(len(key))) + len(key) + len(put_varint(len(value))) + len(value)
        part = keyed(keys.cut, key, max(1, -(-length // 8)))
        stream += part
        owner += [number] * len(part)
    at = start = 0
    while at < len(stream):
        n = min(len(stream) - at, 8192)
        hit = gear_scan(memoryview(stream)[at : at + n], n, FASTCDC, 512, 2048, 0xD90103530000, 0x590003530000)
        last = owner[at + (n - 1 if hit is None else hit)]
        yield records[start : last + 1]
        start = last + 1
        while at < len(stream) and owner[at] <= last:
            at += 1


def node_ends(keys, level, key, length):
    odds = int.from_bytes(keyed(keys.node, bytes([level]) + key)[:8], "little") % 96
    return length == 512 or length >= 32 and odds == 0


def relative(previous, key):
    shared = next((i for i, (a, b) in enumerate(zip(previous, key)) if a != b), min(len(previous), len(key)))
    return put_varint(shared) + put_varint(len(key) - shared) + key[shared:]


def build(keys, records):
    """(root, level, records, logical bytes) of a tree of records without moved-out fields."""
    entries = []
    for leaf in list(cut_leaves(keys, records)) or [[]]:
        data, previous = bytes([0]) + put_varint(len(leaf)), b""
        for key, value in leaf:
            data, previous = data + relative(previous, key) + put_varint(len(value)) + value, key
        assert read_leaf(data) == leaf
        entries.append((previous, keys.object_id(LEAF, data), len(leaf), sum(len(k) + len(v) for k, v in leaf)))
    level = 0
    while len(entries) > 1:
        level, above, node = level + 1, [], []
        for entry in entries:
            node.append(entry)
            if node_ends(keys, level, entry[0], len(node)) or entry is entries[-1]:
                data, previous = bytes([level]) + put_varint(len(node)), b""
                for key, child, count, size in node:
                    data += relative(previous, key) + child + put_varint(count) + put_varint(size)
                    previous = key
                totals = (sum(child[2] for child in node), sum(child[3] for child in node))
                above.append((previous, keys.object_id(NODE, data), *totals))
                node = []
        entries = above
    return entries[0][1], level, entries[0][2], entries[0][3]


def cut_pieces(keys, value):
    table = keyed(keys.gear, b"", 2048)
    table = [int.from_bytes(table[i : i + 8], "little") for i in range(0, 2048, 8)]
    while True:
        m = min(len(value), 262144)
        hit = None
        if len(value) > 16384:
            hit = gear_scan(value, m - m % 2, table, 16384, 65536, 0xD90703537000, 0xD90F03530000)
        size = m if hit is None else hit
        yield value[:size]
        value = value[size:]
        if not value:
            return


def store_value(keys, value):
    level = [(len(piece), keys.object_id(PIECE, piece)) for piece in cut_pieces(keys, value)]
    depth = 0
    while len(level) > 1:
        depth, above = depth + 1, []
        for i in range(0, len(level), 512):
            part = level[i : i + 512]
            data = put_varint(len(part)) + b"".join(put_varint(length) + ident for length, ident in part)
            above.append((sum(length for length, _ in part), keys.object_id(LIST, data)))
        level = above
    return level[0][1], depth


# The vectors
def vectors(text):
    blocks = {}
    for name, body in re.findall(r"^```vectors name=(\S+)\n(.*?)^```", text, re.S | re.M):
        block, last = {}, None
        for line in body.splitlines():
            line = line.split(" # ")[0]
            if line.startswith("  "):
                block[last] = f"{block[last]} {line.strip()}".strip()
            else:
                last, _, value = line.partition(" =")
                block[last] = value.strip()
        blocks[name] = block
    return blocks


def check(name, found, expected):
    if isinstance(found, bytes):
        found, expected = found.hex(), expected.replace(" ", "")
    assert str(found) == expected, f"{name}: {found} is not {expected}"


def refuses(block, read):
    for name, value in block.items():
        try:
            read(bytes.fromhex(value))
        except (Refused, UnicodeDecodeError):
            continue
        raise AssertionError(f"{name} was not refused")


def example(block):
    data = {name: bytes.fromhex(value) for name, value in block.items()}
    ids = {name: block[name + "-id"] for name in ("repository", "slot", "pack", "index", "snapshot")}
    config, slot = data["config"], data["slots/" + ids["slot"]]
    need(config[:9] == b"dbsnapCF\0", "not a config")
    repository = config[9:25]
    keys = open_slot(slot, repository, bytes.fromhex(ids["slot"]), data["unlocking-key"])
    settings = whole_cbor(open_file(keys, repository, "config", config[57:]))
    assert settings[0] == repository and settings[1] == config[25:57] == keys.commitment and settings[3] == []

    cursor = Cursor(open_file(keys, repository, "index/" + ids["index"], data["index/" + ids["index"]]))
    assert cursor.varint() == 1 and cursor.take(16).hex() == ids["pack"]
    pack = data["packs/" + ids["pack"]]
    assert cursor.varint() == len(pack)
    objects = read_directory(cursor)
    cursor.finish()

    def load(kind, ident):
        offset, length = objects[ident]
        return open_frame(keys, repository, kind, ident, pack[offset : offset + length])

    name = "snapshots/" + ids["snapshot"]
    manifest = whole_cbor(open_file(keys, repository, name, data[name]))
    [(key, value)] = read_leaf(load(LEAF, manifest[7]))
    assert key == b"public\0\1fruit\0\1"
    descriptor = whole_cbor(read_fields(value)[0])
    columns = [column[0] for column in descriptor[0][1]]
    rows = []
    for key, value in read_leaf(load(LEAF, descriptor[1])):
        fields = read_fields(value)
        fields += [None] * (len(columns) - len(fields))
        rows.append([None if field is None else field.decode() for field in fields])
        assert key == (int(fields[0]) + 2**63).to_bytes(8, "big")
    assert columns == ["id", "name", "note"]
    assert rows == [["1", "apple", None], ["2", "pear", "ripe"], ["3", "plum", ""]], rows


def stream_a(count):
    for i in range(count):
        length = 6000 if i % 100 == 99 else i * 7919 % 400
        yield i.to_bytes(4, "big"), put_varint(length + 2) + b"a" * length


def main():
    default = pathlib.Path(__file__).parents[2] / "docs" / "FORMAT.md"
    blocks = vectors(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else default).read_text("utf-8"))
    keys, repository = Keys(ROOT), b"\x40" * 16
    example(blocks["example"])

    for name, value in blocks["varint"].items():
        check(name, put_varint(int(name)), value)
    refuses(blocks["refuse-varint"], lambda data: Cursor(data).varint())
    block = blocks["key-schedule"]
    for name, key in (("id", keys.id), ("cut", keys.cut), ("node-cut", keys.node), ("gear", keys.gear)):
        check(name, key, block[name])
    check("row", keys.row, block["row"])
    check("seal.1", keys.seal(1), block["seal.1"])

    block = blocks["frame"]
    compressed = open_file(keys, repository, block["name"], bytes.fromhex(block["compressed"].replace(" ", "")))
    assert compressed == b"a" * 1000
    refuses(blocks["refuse-frame"], lambda data: open_file(keys, repository, block["name"], data))
    refuses(blocks["refuse-object"], lambda data: open_frame(keys, repository, PIECE, b"\x11" * 32, data))
    slot, unlocking = b"\x50" * 16, bytes(range(32, 64))
    for block in ("refuse-slot", "refuse-slot-kms"):
        refuses(blocks[block], lambda data: open_slot(data, repository, slot, unlocking))
    kms = bytes.fromhex(blocks["slot-kms"]["slot"].replace(" ", ""))
    assert open_slot(kms, repository, slot, unlocking).commitment == keys.commitment
    block = blocks["epoch"]
    begun = open_file(keys, repository, block["name"], bytes.fromhex(block["file"].replace(" ", "")))
    check("epoch", begun, int(block["created-ms"]).to_bytes(8, "little").hex())
    refuses(blocks["refuse-record"], read_fields)
    refuses(blocks["refuse-leaf"], read_leaf)
    for name, value in blocks["descriptor"].items():
        whole_cbor(bytes.fromhex(value.replace(" ", "")))
    for name in ("bytes-after-the-end", "cut-short", "map-length-not-shortest", "map-of-no-stated-length"):
        refuses({name: blocks["refuse-manifest"][name]}, whole_cbor)

    for block, key_of in (("key-bson", bson_key), ("key-document", lambda data: document_key(keys, data))):
        for name, value in blocks[block].items():
            if not name.endswith(" key"):
                check(name, key_of(bytes.fromhex(value)), blocks[block][name + " key"])
    refuses(blocks["refuse-key-bson"], bson_key)

    leaves = [len(leaf) for leaf in cut_leaves(keys, list(stream_a(5000)))]
    check("leaves", " ".join(map(str, leaves)), blocks["leaf-cuts"]["leaves"])
    for count in (0, 1, 100, 100_000):
        root, level, records, size = build(keys, list(stream_a(count)))
        for name, found in (("root", root), ("level", level), ("records", records), ("bytes", size)):
            check(f"{name}.{count}", found, blocks["tree-root"][f"{name}.{count}"])
    value = keyed(b"\7" * 32, b"", 1_000_001)
    lengths = [len(piece) for piece in cut_pieces(keys, value)]
    check("lengths", " ".join(map(str, lengths)), blocks["piece-cuts"]["lengths"])
    check("root", store_value(keys, value)[0], blocks["piece-cuts"]["root"])
    print("an independent reader agrees with docs/FORMAT.md")


if __name__ == "__main__":
    main()
