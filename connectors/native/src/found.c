/* What a scan found in a batch, as columns: the parts of tickets, and the fields of bodies. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

PyTypeObject *found_type;
uint64_t word_seed; /* another one in each process, as Python's own, so that nobody can choose collisions */

Found *found_new(PyObject *batch) {
    Found *self = (Found *)heap_new(found_type);
    size_t size = ((Batch *)batch)->arena->size;
    if (!self)
        return NULL;
    self->batch = Py_NewRef(batch);
    self->tickets = malloc((size + 1) * sizeof *self->tickets);
    if (!self->tickets) {
        Py_DECREF((PyObject *)self);
        return (Found *)PyErr_NoMemory();
    }
    return self;
}

static void found_dealloc(PyObject *object) {
    Found *self = (Found *)object;
    Py_XDECREF(self->batch);
    free(self->tickets);
    free(self->values);
    free(self->given);
    heap_free(object);
}

bool found_room(Found *self, int slots, uint32_t texts, uint32_t numbers) {
    size_t size = ((Batch *)self->batch)->arena->size;
    Value *values = malloc((size * (size_t)slots + 1) * sizeof *values);
    uint32_t *given = calloc(size + 1, sizeof *given);
    if (!values || !given) {
        free(values);
        free(given);
        return PyErr_NoMemory() != NULL;
    }
    self->values = values;
    self->given = given;
    self->slots = slots;
    self->texts = texts;
    self->numbers = numbers;
    return true;
}

static const Arena *arena_of(const Found *self) { return ((Batch *)self->batch)->arena; }

/* --- tickets ---------------------------------------------------------------------------------- */

Span ticket_span(const Found *self, int which, size_t place) {
    const TicketPlaces *ticket = &self->tickets[place];
    Place part = ticket->parts[which];
    if (ticket->unknown < 0 || part.size == NOWHERE)
        return (Span){NULL, -1};
    const Arena *arena = arena_of(self);
    return (Span){arena->headers.at + arena->rows[place].headers + part.at, part.size};
}

static Span part_span(PyObject *object, int which, size_t place) { return ticket_span((Found *)object, which, place); }

static Span text_span(PyObject *object, int which, size_t place) { /* as the cell is */
    Span span = part_span(object, which, place);
    return span.size < 0 ? (Span){"", 0} : span;
}

static PyObject *text_cell(PyObject *object, int which, size_t place) { /* ASCII; "" where there is none */
    Span span = text_span(object, which, place);
    return PyUnicode_DecodeASCII(span.at, span.size, NULL);
}

static PyObject *bytes_cell(PyObject *object, int which, size_t place) {
    Span span = part_span(object, which, place);
    return span.size < 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(span.at, span.size);
}

static PyObject *rest_cell(PyObject *object, int which, size_t place) {
    (void)which;
    int32_t unknown = ((Found *)object)->tickets[place].unknown;
    return unknown > 0 ? rest_of(arena_of((Found *)object), place, unknown) : PyTuple_New(0);
}

PyDoc_STRVAR(texts_doc, "texts() -> columns\n\nOf ids, correlations, subjects, causations, histories (str), parents\n"
                        "and states of traces, signatures (bytes), and the headers of others (tuples).");

static PyObject *found_texts(PyObject *object, PyObject *ignored) {
    static const ColumnKind texts = {text_cell, text_span, NULL}, bytes = {bytes_cell, part_span, NULL},
                            rests = {rest_cell, NULL, NULL};
    (void)ignored;
    PyObject *columns = PyTuple_New(LISTS);
    for (int n = 0; columns && n < LISTS; n++) {
        const ColumnKind *kind = n == RESTS ? &rests : n >= TRACEPARENTS ? &bytes : &texts;
        PyObject *column = column_new(object, kind, n, arena_of((Found *)object)->size);
        if (!column || PyTuple_SetItem(columns, n, column))
            Py_CLEAR(columns);
    }
    return columns;
}

/* --- bodies ----------------------------------------------------------------------------------- */

static Span field_span(PyObject *object, int slot, size_t place) {
    const Found *self = (Found *)object;
    if (!(self->given[place] >> slot & 1))
        return (Span){NULL, -1};
    const Value *value = &self->values[place * (size_t)self->slots + (size_t)slot];
    const Arena *arena = arena_of(self);
    return (Span){arena->bodies.at + arena->rows[place].value + value->text.at, value->text.size};
}

static PyObject *field_text(Span span) {
    return span.size < 0 ? Py_NewRef(Py_None) : PyUnicode_DecodeASCII(span.at, span.size, NULL);
}

static PyObject *field_cell(PyObject *object, int slot, size_t place) {
    return field_text(field_span(object, slot, place));
}

/* The slot that Python asks for; -1 with an exception when bodies were not scanned, it is none, or of
 * the others: a number read as a text would be an address. */
static int slot_of(const Found *self, PyObject *number, uint32_t others) {
    long slot = PyLong_AsLong(number);
    if (!PyErr_Occurred() && self->values && slot >= 0 && slot < self->slots && !(others >> slot & 1))
        return (int)slot;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "expected a scan of bodies, and one of its slots of this kind");
    return -1;
}

static PyObject *found_fields(PyObject *object, PyObject *number) {
    static const ColumnKind fields = {field_cell, field_span, NULL};
    int slot = slot_of((Found *)object, number, ((Found *)object)->numbers);
    return slot < 0 ? NULL : column_new(object, &fields, slot, arena_of((Found *)object)->size);
}

static PyObject *found_numbers(PyObject *object, PyObject *number) {
    const Found *self = (Found *)object;
    int slot = slot_of(self, number, self->texts);
    size_t size = arena_of(self)->size;
    PyObject *array = slot < 0 ? NULL : PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(size * sizeof(int64_t)));
    if (!array)
        return NULL;
    int64_t *numbers = (int64_t *)(void *)PyByteArray_AsString(array);
    for (size_t place = 0; place < size; place++)
        numbers[place] =
            self->given[place] >> slot & 1 ? self->values[place * (size_t)self->slots + (size_t)slot].number : 0;
    return array;
}

/* The code of a word, a new one for a new word; -1 with an exception. The table has a free slot. */
static int64_t code_of(Span span, int32_t *table, size_t mask, Span *known, PyObject *words, int64_t *looks) {
    size_t slot = hash_of(word_seed, span.at, (size_t)span.size) & mask;
    for (++*looks; table[slot]; slot = (slot + 1) & mask, ++*looks) {
        const Span *other = &known[table[slot] - 1];
        if (other->size == span.size && !memcmp(other->at, span.at, (size_t)span.size))
            return table[slot] - 1;
    }
    Py_ssize_t code = PyList_Size(words);
    PyObject *text = field_text(span);
    int wrong = text ? PyList_Append(words, text) : -1;
    Py_XDECREF(text);
    known[code] = span;
    table[slot] = (int32_t)code + 1;
    return wrong ? -1 : code;
}

PyDoc_STRVAR(words_doc, "words(slot) -> (words, codes)\n\n"
                        "The different words of a field in the order in which they come, and each body's number of\n"
                        "its word as int64, -1 without one.");

static PyObject *found_words(PyObject *object, PyObject *number) {
    Found *self = (Found *)object;
    int slot = slot_of(self, number, self->numbers);
    if (slot < 0)
        return NULL;
    size_t size = arena_of(self)->size, room = 64;
    while (room < size * 2)
        room *= 2;
    int32_t *table = calloc(room, sizeof *table);
    Span *known = malloc((size + 1) * sizeof *known);
    PyObject *words = PyList_New(0), *array = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(size * sizeof(int64_t)));
    bool fine = table && known && words && array;
    if (!table || !known)
        PyErr_NoMemory();
    int64_t *codes = fine ? (int64_t *)(void *)PyByteArray_AsString(array) : NULL;
    for (size_t place = 0; fine && place < size; place++) {
        Span span = field_span(object, slot, place);
        codes[place] = span.size < 0 ? -1 : code_of(span, table, room - 1, known, words, &self->looks);
        fine = codes[place] >= 0 || span.size < 0;
    }
    free(table);
    free(known);
    PyObject *result = fine ? Py_BuildValue("(OO)", words, array) : NULL;
    Py_XDECREF(words);
    Py_XDECREF(array);
    return result;
}

static PyObject *found_looks(PyObject *object, PyObject *ignored) {
    (void)ignored;
    return PyLong_FromLongLong(((Found *)object)->looks);
}

/* Who reads bodies knows no library, only that its tickets may offer this. */
static PyObject *found_bodies(PyObject *self, PyObject *plan) {
    (void)self;
    return PyObject_CallFunctionObjArgs((PyObject *)bodies_type, plan, NULL);
}

PyDoc_STRVAR(hashes_doc, "hashes(ids, values, kinds, numbers, times) -> (events, contents)\n\n"
                         "Of each message eight bytes, little first: the hash of its id, and of its kind, time and\n"
                         "value. `numbers` are places in `kinds`, eight bytes each as `times`; 0 without a kind.");

/* Memory does not travel to another process; its columns do. */
static PyObject *found_reduce(PyObject *self, PyObject *ignored) {
    (void)self, (void)ignored;
    return Py_BuildValue("(O())", Py_TYPE(Py_None));
}

static PyMethodDef found_methods[] = {
    {"texts", found_texts, METH_NOARGS, texts_doc},
    {"bodies", found_bodies, METH_O, "bodies(plan) -> Bodies: a new reader of bodies by this plan."},
    {"fields", found_fields, METH_O, "fields(slot) -> column of a body field's texts, None without one."},
    {"numbers", found_numbers, METH_O, "numbers(slot) -> a body field's numbers as int64, 0 without one."},
    {"words", found_words, METH_O, words_doc},
    {"hashes", hash_events, METH_VARARGS, hashes_doc},
    {"looks", found_looks, METH_NOARGS, "looks() -> how many places of tables words() has looked at."},
    {"__reduce__", found_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot found_slots[] = {
    {Py_tp_doc, "What was found in a batch: columns are made when somebody asks."},
    {Py_tp_dealloc, found_dealloc},
    {Py_tp_methods, found_methods},
    {0, NULL},
};
PyType_Spec found_spec = {"connectors.native._native.Found", sizeof(Found), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, found_slots};
