/* The hashes by which events are told apart: BLAKE2b with 8 bytes, as hashlib makes it (RFC 7693). */
#include "module.h"

#include <string.h>

#define BLOCK 128

typedef struct {
    uint64_t state[8];
    uint64_t done; /* bytes that went in before those in the block */
    size_t used;
    unsigned char block[BLOCK];
} Hash;

static const uint64_t IV[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

/* In which order each round takes the words of a block; rounds 10 and 11 are 0 and 1 again. */
static const unsigned char ORDER[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static uint64_t little(uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

static uint64_t turn(uint64_t word, int by) { return word >> by | word << (64 - by); }

static inline void mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y) {
    v[a] += v[b] + x;
    v[d] = turn(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = turn(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = turn(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = turn(v[b] ^ v[c], 63);
}

static void press(Hash *hash, bool last) {
    uint64_t v[16], m[16];
    for (int n = 0; n < 16; n++) {
        memcpy(&m[n], hash->block + 8 * n, 8);
        m[n] = little(m[n]);
    }
    memcpy(v, hash->state, sizeof hash->state);
    memcpy(v + 8, IV, sizeof IV);
    v[12] ^= hash->done; /* far less than 2^64 bytes, so the other half is 0 */
    if (last)
        v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const unsigned char *o = ORDER[round % 10];
        mix(v, 0, 4, 8, 12, m[o[0]], m[o[1]]);
        mix(v, 1, 5, 9, 13, m[o[2]], m[o[3]]);
        mix(v, 2, 6, 10, 14, m[o[4]], m[o[5]]);
        mix(v, 3, 7, 11, 15, m[o[6]], m[o[7]]);
        mix(v, 0, 5, 10, 15, m[o[8]], m[o[9]]);
        mix(v, 1, 6, 11, 12, m[o[10]], m[o[11]]);
        mix(v, 2, 7, 8, 13, m[o[12]], m[o[13]]);
        mix(v, 3, 4, 9, 14, m[o[14]], m[o[15]]);
    }
    for (int n = 0; n < 8; n++)
        hash->state[n] ^= v[n] ^ v[n + 8];
}

static void begin(Hash *hash) {
    memcpy(hash->state, IV, sizeof IV);
    hash->state[0] ^= 0x01010000 ^ 8; /* no key, and 8 bytes */
    hash->done = hash->used = 0;
}

static void add(Hash *hash, const char *at, size_t size) {
    while (size) {
        if (hash->used == BLOCK) { /* not before more comes: the last block is another */
            hash->done += BLOCK;
            press(hash, false);
            hash->used = 0;
        }
        size_t part = BLOCK - hash->used < size ? BLOCK - hash->used : size;
        memcpy(hash->block + hash->used, at, part);
        hash->used += part;
        at += part;
        size -= part;
    }
}

static uint64_t end(Hash *hash) {
    memset(hash->block + hash->used, 0, BLOCK - hash->used);
    hash->done += hash->used;
    press(hash, true);
    return hash->state[0];
}

static void add_number(Hash *hash, int64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do
        digits[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (number < 0)
        add(hash, "-", 1);
    add(hash, digits + at, sizeof digits - at);
}

/* A cell of a column or of a list, absent as nothing; false with an exception. */
static bool cell_of(PyObject *cells, Py_ssize_t place, Span *span) {
    if (Py_TYPE(cells) == column_type) {
        if (!((Column *)cells)->kind->span) {
            PyErr_SetString(PyExc_TypeError, "a column that has no bytes");
            return false;
        }
        if (!column_span(cells, place, span))
            return false;
    } else {
        PyObject *item = PyList_GetItem(cells, place);
        if (!item || !bytes_of(item, span))
            return false;
    }
    if (span->size < 0)
        span->size = 0;
    return true;
}

PyObject *hash_events(PyObject *found, PyObject *arguments) {
    PyObject *ids, *values, *kinds;
    const char *numbers, *times;
    Py_ssize_t number_bytes, time_bytes;
    (void)found;
    if (!PyArg_ParseTuple(arguments, "OOO!y#y#", &ids, &values, &PyList_Type, &kinds, &numbers, &number_bytes, &times,
                          &time_bytes))
        return NULL;
    Py_ssize_t size = number_bytes / 8, kind_count = PyList_Size(kinds);
    if (number_bytes != time_bytes || PyObject_Size(ids) != size || PyObject_Size(values) != size) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "expected columns of the same length");
        return NULL;
    }
    PyObject *events = PyByteArray_FromStringAndSize(NULL, size * 8), *contents = PyByteArray_FromStringAndSize(NULL, size * 8);
    bool fine = events && contents;
    for (Py_ssize_t place = 0; fine && place < size; place++) {
        int64_t number, time_ms;
        uint64_t event = 0, content = 0;
        memcpy(&number, numbers + place * 8, 8);
        memcpy(&time_ms, times + place * 8, 8);
        if (number >= 0 && number < kind_count) {
            Span id, value, kind;
            fine = cell_of(ids, place, &id) && cell_of(values, place, &value) &&
                   cell_of(kinds, (Py_ssize_t)number, &kind);
            if (fine) {
                Hash hash;
                begin(&hash);
                add(&hash, id.at, (size_t)id.size);
                event = little(end(&hash));
                begin(&hash);
                add(&hash, kind.at, (size_t)kind.size);
                add_number(&hash, time_ms);
                add(&hash, "", 1);
                add(&hash, value.at, (size_t)value.size);
                content = little(end(&hash));
            }
        }
        memcpy(PyByteArray_AsString(events) + place * 8, &event, 8);
        memcpy(PyByteArray_AsString(contents) + place * 8, &content, 8);
    }
    PyObject *result = fine ? Py_BuildValue("(OO)", events, contents) : NULL;
    Py_XDECREF(events);
    Py_XDECREF(contents);
    return result;
}
