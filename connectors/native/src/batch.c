/* A batch for Python: columns when asked for, and itself the sequence of its messages' headers. */
#include "module.h"

#include <string.h>

PyTypeObject *batch_type;

PyObject *batch_of(Arena *arena) {
    Batch *self = (Batch *)heap_new(batch_type);
    if (self)
        self->arena = arena;
    else
        arena_give(arena);
    return (PyObject *)self;
}

static void batch_dealloc(PyObject *self) {
    arena_give(((Batch *)self)->arena);
    heap_free(self);
}

/* --- headers ---------------------------------------------------------------------------------- */

#define NAMES 64
static struct {
    PyObject *text;
    char bytes[32];
    size_t size;
} names[NAMES]; /* used under the interpreter's lock only */

/* The few names that recur are one object each; others are made anew. */
static PyObject *name_text(const char *name, size_t size) {
    if (size == 0 || size > sizeof names->bytes)
        return PyUnicode_DecodeUTF8(name, (Py_ssize_t)size, NULL);
    size_t slot = (size * 31 + (unsigned char)name[size - 1] * 7 + (unsigned char)name[size / 2]) % NAMES;
    if (!names[slot].text || names[slot].size != size || memcmp(names[slot].bytes, name, size)) {
        PyObject *text = PyUnicode_DecodeUTF8(name, (Py_ssize_t)size, NULL);
        if (!text)
            return NULL;
        PyObject *old = names[slot].text;
        names[slot].text = text;
        names[slot].size = size;
        memcpy(names[slot].bytes, name, size);
        Py_XDECREF(old);
    }
    return Py_NewRef(names[slot].text);
}

static PyObject *bytes_or_none(const char *at, int32_t size) {
    return size < 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(at, size);
}

/* [(replacement character, None)]: what the pure level gives for names that are not UTF-8. */
static PyObject *unreadable(void) {
    PyErr_Clear();
    return Py_BuildValue("[(sO)]", "\xef\xbf\xbd", Py_None);
}

PyObject *header_list(const Arena *arena, size_t place) {
    const Row *row = &arena->rows[place];
    if (row->header_count < 0)
        return Py_NewRef(Py_None);
    PyObject *list = PyList_New(row->header_count);
    size_t at = row->headers;
    for (Py_ssize_t n = 0; list && n < row->header_count; n++) {
        HeaderView view;
        at = header_at(arena, at, &view);
        PyObject *name = name_text(view.name, (size_t)view.name_size);
        if (!name) {
            Py_DECREF(list);
            return PyErr_ExceptionMatches(PyExc_UnicodeDecodeError) ? unreadable() : NULL;
        }
        PyObject *value = bytes_or_none(view.value, view.value_size);
        PyObject *pair = value ? PyTuple_Pack(2, name, value) : NULL;
        Py_DECREF(name);
        Py_XDECREF(value);
        if (!pair || PyList_SetItem(list, n, pair))
            Py_CLEAR(list);
    }
    return list;
}

static Py_ssize_t batch_length(PyObject *self) { return (Py_ssize_t)((Batch *)self)->arena->size; }

static PyObject *batch_item(PyObject *self, Py_ssize_t place) {
    if (place < 0 || place >= batch_length(self)) {
        PyErr_SetString(PyExc_IndexError, "no such message");
        return NULL;
    }
    return header_list(((Batch *)self)->arena, (size_t)place);
}

static PyObject *batch_get(PyObject *self, PyObject *key) {
    if (PyIndex_Check(key)) {
        Py_ssize_t place = PyNumber_AsSsize_t(key, PyExc_IndexError);
        if (place == -1 && PyErr_Occurred())
            return NULL;
        return batch_item(self, place < 0 ? place + batch_length(self) : place);
    }
    Py_ssize_t first, end, step, size;
    if (!PyObject_TypeCheck(key, &PySlice_Type)) {
        PyErr_SetString(PyExc_TypeError, "expected a place or a slice");
        return NULL;
    }
    if (PySlice_Unpack(key, &first, &end, &step))
        return NULL;
    size = PySlice_AdjustIndices(batch_length(self), &first, &end, step);
    PyObject *list = PyList_New(size);
    for (Py_ssize_t n = 0; list && n < size; n++) {
        PyObject *headers = header_list(((Batch *)self)->arena, (size_t)(first + n * step));
        if (!headers || PyList_SetItem(list, n, headers))
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *batch_compare(PyObject *self, PyObject *other, int how) {
    if (how != Py_EQ && how != Py_NE)
        return Py_NewRef(Py_NotImplemented);
    PyObject *mine = PySequence_List(self), *theirs = PySequence_List(other), *result = NULL;
    if (mine && theirs)
        result = PyObject_RichCompare(mine, theirs, how);
    Py_XDECREF(mine);
    Py_XDECREF(theirs);
    return result;
}

/* A batch that travels to another process is a list there. */
static PyObject *batch_reduce(PyObject *self, PyObject *ignored) {
    (void)ignored;
    PyObject *list = PySequence_List(self);
    return list ? Py_BuildValue("(O(N))", &PyList_Type, list) : NULL;
}

/* --- columns ---------------------------------------------------------------------------------- */

enum { KEY, VALUE, PARTITION, OFFSET, TIME };

static const Row *row_at(PyObject *batch, size_t place) { return &((Batch *)batch)->arena->rows[place]; }

static Span content_span(PyObject *batch, int which, size_t place) {
    const Row *row = row_at(batch, place);
    const char *bodies = ((Batch *)batch)->arena->bodies.at;
    return which == KEY ? (Span){bodies + row->key, row->key_size} : (Span){bodies + row->value, row->value_size};
}

static PyObject *content_cell(PyObject *batch, int which, size_t place) {
    Span span = content_span(batch, which, place);
    return span.size < 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(span.at, span.size);
}

static PyObject *number_cell(PyObject *batch, int which, size_t place) {
    const Row *row = row_at(batch, place);
    return PyLong_FromLongLong(which == PARTITION ? row->partition : which == OFFSET ? row->offset : row->time_ms);
}

static void numbers_of(PyObject *batch, int which, Numbers *numbers) {
    static const Row none;
    const Row *row = ((Batch *)batch)->arena->size ? row_at(batch, 0) : &none;
    numbers->at = which == PARTITION ? (const void *)&row->partition : which == OFFSET ? &row->offset : &row->time_ms;
    numbers->bytes = which == PARTITION ? sizeof row->partition : sizeof row->offset;
    numbers->stride = sizeof *row;
}

static const ColumnKind contents = {content_cell, content_span, NULL}, numbers = {number_cell, NULL, numbers_of};

bool is_column_of(PyObject *object, PyObject *batch, bool keys) {
    const Column *column = (Column *)object;
    return PyObject_TypeCheck(object, column_type) && column->owner == batch && column->kind == &contents &&
           column->which == (keys ? KEY : VALUE) && !column->put;
}

#define COLUMN(name, kind, which) \
    static PyObject *batch_##name(PyObject *self, PyObject *ignored) { \
        (void)ignored; \
        return column_new(self, &kind, which, ((Batch *)self)->arena->size); \
    }
COLUMN(values, contents, VALUE)
COLUMN(keys, contents, KEY)
COLUMN(partitions, numbers, PARTITION)
COLUMN(offsets, numbers, OFFSET)
COLUMN(times, numbers, TIME)

static PyObject *batch_topic(PyObject *self, PyObject *ignored) {
    (void)ignored;
    return PyUnicode_FromString(((Batch *)self)->arena->topic);
}

static PyObject *batch_asked(PyObject *self, PyObject *ignored) {
    (void)ignored;
    return PyLong_FromSize_t(((Batch *)self)->arena->asked);
}

/* Who reads tickets knows no library, only that its headers may offer this. */
static PyObject *batch_scanner(PyObject *self, PyObject *ignored) {
    (void)self, (void)ignored;
    return PyObject_CallNoArgs((PyObject *)scanner_type);
}

/* --- made by hand ----------------------------------------------------------------------------- */

static int add_headers(Arena *arena, Row *row, PyObject *headers) {
    if (headers == Py_None)
        return 0;
    if (PyBytes_Check(headers)) { /* as on the wire */
        Wire wire;
        Py_ssize_t size = PyBytes_Size(headers);
        if (!wire_begin(&wire, PyBytes_AsString(headers), (size_t)size) ||
            arena_add_wire(arena, wire) != ADDED_NO_MEMORY)
            return 0;
        PyErr_NoMemory();
        return -1;
    }
    row->header_count = 0;
    Py_ssize_t count = PySequence_Size(headers);
    for (Py_ssize_t n = 0; n < count; n++) {
        PyObject *pair = PySequence_GetItem(headers, n);
        const char *name, *value;
        Py_ssize_t size = 0;
        int fine = pair && PyArg_ParseTuple(pair, "yz#", &name, &value, &size);
        if (fine && !arena_add_header(arena, name, strlen(name), value, (size_t)size)) {
            PyErr_NoMemory();
            fine = 0;
        }
        Py_XDECREF(pair);
        if (!fine)
            return -1;
    }
    return count < 0 ? -1 : 0;
}


PyObject *batch_make(PyObject *module, PyObject *arguments) {
    (void)module;
    const char *topic;
    PyObject *messages;
    if (!PyArg_ParseTuple(arguments, "sO", &topic, &messages))
        return NULL;
    Arena *arena = arena_take(topic);
    if (!arena)
        return PyErr_NoMemory();
    Py_ssize_t count = PySequence_Size(messages);
    for (Py_ssize_t n = 0; n < count; n++) {
        PyObject *message = PySequence_GetItem(messages, n), *headers;
        const char *key, *value;
        Py_ssize_t key_size = 0, value_size = 0;
        int partition;
        long long offset, time_ms;
        Row *row = NULL;
        if (message && PyArg_ParseTuple(message, "iLLz#z#O", &partition, &offset, &time_ms, &key, &key_size, &value,
                                        &value_size, &headers)) {
            row = arena_row(arena, key, (size_t)key_size, value, (size_t)value_size);
            if (!row)
                PyErr_NoMemory();
            else {
                row->partition = partition;
                row->offset = offset;
                row->time_ms = time_ms;
                if (add_headers(arena, row, headers))
                    row = NULL;
            }
        }
        Py_XDECREF(message);
        if (!row) {
            count = -1;
            break;
        }
    }
    if (count < 0) {
        arena_give(arena);
        return NULL;
    }
    return batch_of(arena);
}

static PyMethodDef batch_methods[] = {
    {"topic", batch_topic, METH_NOARGS, "The topic of all of them."},
    {"values", batch_values, METH_NOARGS, "The values, None for null."},
    {"keys", batch_keys, METH_NOARGS, "The keys, None for null."},
    {"partitions", batch_partitions, METH_NOARGS, "The partitions."},
    {"offsets", batch_offsets, METH_NOARGS, "The offsets."},
    {"timestamps", batch_times, METH_NOARGS, "The record times in milliseconds; -1 without one."},
    {"asked", batch_asked, METH_NOARGS, "How many messages' headers were asked of librdkafka, one by one."},
    {"scanner", batch_scanner, METH_NOARGS, "A new reader of tickets for batches like this one."},
    {"__reduce__", batch_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot batch_slots[] = {
    {Py_tp_doc, "Messages of one topic; as a sequence, the headers of each."},
    {Py_tp_dealloc, batch_dealloc},
    {Py_tp_methods, batch_methods},
    {Py_tp_richcompare, batch_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_sq_length, batch_length},
    {Py_sq_item, batch_item},
    {Py_mp_length, batch_length},
    {Py_mp_subscript, batch_get},
    {0, NULL},
};
PyType_Spec batch_spec = {"connectors.native._native.Batch", sizeof(Batch), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, batch_slots};
