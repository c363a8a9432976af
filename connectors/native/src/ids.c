/* Identifiers to row numbers, kept outside the Python heap: long-lived small strings between
 * short-lived ones make every later allocation dearer. Rows count from 0 in the order of arrival. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 0x7ffffff0u
static const char MAGIC[4] = "ids1";

typedef struct {
    PyObject_HEAD
    uint64_t seed;
    uint32_t *slots; /* row + 1, 0 for empty; `mask` + 1 of them, at most 5/8 in use */
    uint64_t mask;
    uint32_t *hashes; /* by row, so that growing touches no identifier */
    uint64_t *ends;   /* by row: where its identifier ends in `bytes` */
    uint64_t count, room;
    char *bytes;
    uint64_t used, bytes_room;
} Ids;

static uint64_t mix(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Seeded: whoever chooses identifiers must not be able to choose collisions. */
static uint32_t hash_of(const Ids *self, const char *at, size_t size) {
    uint64_t hash = self->seed ^ (size * 0x9E3779B97F4A7C15u), word;
    for (; size >= 8; at += 8, size -= 8) {
        memcpy(&word, at, 8);
        hash = mix(hash ^ word, 0xE7037ED1A0B428DBu ^ self->seed);
    }
    word = 0;
    if (size)
        memcpy(&word, at, size);
    hash = mix(hash ^ word, 0xA0761D6478BD642Fu);
    return (uint32_t)(hash ^ (hash >> 32));
}

static bool grow_slots(Ids *self) {
    uint64_t size = self->mask ? (self->mask + 1) * 2 : 1024;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots)
        return false;
    for (uint64_t row = 0; row < self->count; row++) {
        uint64_t slot = self->hashes[row] & (size - 1);
        while (slots[slot])
            slot = (slot + 1) & (size - 1);
        slots[slot] = (uint32_t)row + 1;
    }
    free(self->slots);
    self->slots = slots;
    self->mask = size - 1;
    return true;
}

static bool grow_rows(Ids *self) {
    uint64_t room = self->room ? self->room + self->room / 2 : 1024;
    uint32_t *hashes = realloc(self->hashes, room * sizeof *hashes);
    if (hashes)
        self->hashes = hashes;
    uint64_t *ends = realloc(self->ends, room * sizeof *ends);
    if (ends)
        self->ends = ends;
    if (!hashes || !ends)
        return false;
    self->room = room;
    return true;
}

static bool grow_bytes(Ids *self, size_t more) {
    uint64_t room = self->bytes_room ? self->bytes_room : 1 << 14;
    if (more > SIZE_MAX / 4 - self->used)
        return false;
    while (room < self->used + more)
        room += room / 2;
    char *bytes = realloc(self->bytes, room);
    if (!bytes)
        return false;
    self->bytes = bytes;
    self->bytes_room = room;
    return true;
}

/* The row of an identifier; -1: not there, -2: no memory. */
static int64_t row_of(Ids *self, const char *at, size_t size, bool add) {
    if (!self->slots && !grow_slots(self))
        return -2;
    uint32_t hash = hash_of(self, at, size);
    uint64_t slot = hash & self->mask;
    for (; self->slots[slot]; slot = (slot + 1) & self->mask) {
        uint32_t row = self->slots[slot] - 1;
        uint64_t start = row ? self->ends[row - 1] : 0;
        if (self->hashes[row] == hash && self->ends[row] - start == size &&
            (!size || !memcmp(self->bytes + start, at, size)))
            return row;
    }
    if (!add)
        return -1;
    if (self->count >= ROWS_MAX || (self->count == self->room && !grow_rows(self)) ||
        (self->used + size > self->bytes_room && !grow_bytes(self, size)))
        return -2;
    if (size)
        memcpy(self->bytes + self->used, at, size);
    self->used += size;
    self->hashes[self->count] = hash;
    self->ends[self->count] = self->used;
    self->slots[slot] = (uint32_t)++self->count;
    int64_t row = (int64_t)self->count - 1;
    if (self->count * 8 > (self->mask + 1) * 5 && !grow_slots(self))
        return -2;
    return row;
}

/* --- for Python ------------------------------------------------------------------------------- */

static PyObject *rows_bytes(Py_ssize_t count, int64_t **rows) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof **rows);
    *rows = bytes ? (int64_t *)(void *)PyBytes_AsString(bytes) : NULL;
    return bytes;
}

PyDoc_STRVAR(rows_doc, "rows(identifiers, add, places=None) -> bytes\n\n"
                       "The row of each str or bytes in a list or a column, or of those at these places (int64), as\n"
                       "int64; -1 for None and for unknown ones.");

/* The identifier at a place, without making it an object where it is in the library's memory. */
static bool identifier_at(PyObject *items, Py_ssize_t place, Span *span) {
    if (PyList_Check(items)) {
        PyObject *item = PyList_GetItem(items, place);
        return item && bytes_of(item, span);
    }
    if (place >= 0 && place < ((Column *)items)->size)
        return column_span(items, place, span);
    PyErr_SetString(PyExc_IndexError, "no such message");
    return false;
}

static PyObject *ids_rows(PyObject *object, PyObject *arguments) {
    PyObject *items;
    int add;
    const char *places = NULL;
    Py_ssize_t place_bytes = 0;
    if (!PyArg_ParseTuple(arguments, "Op|z#", &items, &add, &places, &place_bytes))
        return NULL;
    bool column = PyObject_TypeCheck(items, column_type) && ((Column *)items)->kind->span;
    if (!column && !PyList_Check(items)) {
        PyErr_SetString(PyExc_TypeError, "expected a list or a column of identifiers");
        return NULL;
    }
    int64_t *rows, place;
    Py_ssize_t count = places ? place_bytes / (Py_ssize_t)sizeof place : PyObject_Size(items);
    PyObject *result = rows_bytes(count, &rows);
    for (Py_ssize_t n = 0; result && n < count; n++) {
        Span span;
        place = n;
        if (places)
            memcpy(&place, places + n * (Py_ssize_t)sizeof place, sizeof place);
        rows[n] = -1;
        if (!identifier_at(items, (Py_ssize_t)place, &span))
            Py_CLEAR(result);
        else if (span.size >= 0 && (rows[n] = row_of((Ids *)object, span.at, (size_t)span.size, add)) == -2) {
            PyErr_NoMemory();
            Py_CLEAR(result);
        }
    }
    return result;
}

PyDoc_STRVAR(key_rows_doc, "key_rows(batch, add) -> bytes\n\nThe row of each message's key, without making it an object.");

static PyObject *ids_key_rows(PyObject *object, PyObject *arguments) {
    PyObject *batch;
    int add;
    if (!PyArg_ParseTuple(arguments, "O!p", batch_type, &batch, &add))
        return NULL;
    const Arena *arena = ((Batch *)batch)->arena;
    int64_t *rows;
    PyObject *result = rows_bytes((Py_ssize_t)arena->size, &rows);
    for (size_t n = 0; result && n < arena->size; n++) {
        const Row *row = &arena->rows[n];
        rows[n] = -1;
        if (row->key_size >= 0)
            rows[n] = row_of((Ids *)object, arena->bodies.at + row->key, (size_t)row->key_size, add);
        if (rows[n] == -2) {
            PyErr_NoMemory();
            Py_CLEAR(result);
        }
    }
    return result;
}

static PyObject *ids_item(PyObject *object, Py_ssize_t row) {
    const Ids *self = (Ids *)object;
    if (row < 0 || (uint64_t)row >= self->count) {
        PyErr_SetString(PyExc_IndexError, "no such row");
        return NULL;
    }
    uint64_t start = row ? self->ends[row - 1] : 0;
    return PyBytes_FromStringAndSize(self->bytes + start, (Py_ssize_t)(self->ends[row] - start));
}

static Py_ssize_t ids_length(PyObject *object) { return (Py_ssize_t)((Ids *)object)->count; }

static void put(char **at, uint64_t number, int bytes) { /* little-endian on every machine */
    for (int n = 0; n < bytes; n++)
        *(*at)++ = (char)(number >> (8 * n));
}

static uint64_t get(const char *at, int bytes) {
    uint64_t number = 0;
    for (int n = bytes - 1; n >= 0; n--)
        number = number << 8 | (unsigned char)at[n];
    return number;
}

PyDoc_STRVAR(dump_doc, "dump() -> bytes\n\nThe magic word, the count (8 bytes), the sizes (4 bytes each), the identifiers.");

static PyObject *ids_dump(PyObject *object, PyObject *ignored) {
    const Ids *self = (Ids *)object;
    (void)ignored;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(sizeof MAGIC + 8 + self->count * 4 + self->used));
    if (!bytes)
        return NULL;
    char *at = PyBytes_AsString(bytes);
    memcpy(at, MAGIC, sizeof MAGIC);
    at += sizeof MAGIC;
    put(&at, self->count, 8);
    for (uint64_t row = 0, start = 0; row < self->count; start = self->ends[row++])
        put(&at, self->ends[row] - start, 4);
    if (self->used)
        memcpy(at, self->bytes, self->used);
    return bytes;
}

/* Read a dump; an identifier that stands in it twice would give one row two meanings. */
static const char *load(Ids *self, const char *at, uint64_t size) {
    if (size < sizeof MAGIC + 8 || memcmp(at, MAGIC, sizeof MAGIC))
        return "expected a dump of identifiers";
    uint64_t count = get(at + sizeof MAGIC, 8), left = size - sizeof MAGIC - 8;
    if (count > ROWS_MAX || left / 4 < count)
        return "expected as many sizes as identifiers";
    const char *sizes = at + sizeof MAGIC + 8, *id = sizes + count * 4;
    left -= count * 4;
    for (uint64_t n = 0; n < count; n++) {
        uint64_t length = get(sizes + n * 4, 4);
        if (length > left)
            return "expected all identifiers";
        int64_t row = row_of(self, id, length, true);
        if (row == -2)
            return "no memory";
        if ((uint64_t)row != n)
            return "expected each identifier once";
        id += length;
        left -= length;
    }
    return left ? "expected nothing behind the identifiers" : NULL;
}

static PyObject *ids_new(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    (void)names;
    unsigned long long seed;
    const char *dumped;
    Py_ssize_t size = 0;
    if (!PyArg_ParseTuple(arguments, "Kz#", &seed, &dumped, &size))
        return NULL;
    Ids *self = (Ids *)heap_new(type);
    if (!self)
        return NULL;
    self->seed = seed;
    const char *wrong = dumped ? load(self, dumped, (uint64_t)size) : NULL;
    if (wrong) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_ValueError, wrong);
        return NULL;
    }
    return (PyObject *)self;
}

static void ids_dealloc(PyObject *object) {
    Ids *self = (Ids *)object;
    free(self->slots);
    free(self->hashes);
    free(self->ends);
    free(self->bytes);
    heap_free(object);
}

static PyMethodDef ids_methods[] = {
    {"rows", ids_rows, METH_VARARGS, rows_doc},
    {"key_rows", ids_key_rows, METH_VARARGS, key_rows_doc},
    {"dump", ids_dump, METH_NOARGS, dump_doc},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot ids_slots[] = {
    {Py_tp_doc, "Ids(seed, dump or None): identifiers and their rows."},
    {Py_tp_new, ids_new},
    {Py_tp_dealloc, ids_dealloc},
    {Py_tp_methods, ids_methods},
    {Py_sq_length, ids_length},
    {Py_sq_item, ids_item},
    {0, NULL},
};
PyType_Spec ids_spec = {"connectors.native._native.Ids", sizeof(Ids), 0, Py_TPFLAGS_DEFAULT, ids_slots};
