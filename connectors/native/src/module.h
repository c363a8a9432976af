/* What the parts of the module share. */
#ifndef AIRSIDE_MODULE_H
#define AIRSIDE_MODULE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000 /* one library for Python 3.11 and everything after it */
#include <Python.h>

#include "arena.h"

typedef struct {
    PyObject_HEAD
    Arena *arena;
} Batch;

typedef struct {
    const char *at;
    Py_ssize_t size; /* -1: absent */
} Span;

typedef struct {
    const void *at;
    Py_ssize_t stride, bytes; /* of one number: 8 or 4 */
} Numbers;

/* What the cells of a column are; a span or numbers only where they have such. */
typedef struct {
    PyObject *(*cell)(PyObject *owner, int which, size_t place);
    Span (*span)(PyObject *owner, int which, size_t place);
    void (*numbers)(PyObject *owner, int which, Numbers *numbers);
} ColumnKind;

typedef struct {
    PyObject_HEAD
    PyObject *owner; /* holds the memory */
    const ColumnKind *kind;
    int which;
    Py_ssize_t size, stride;
    PyObject *list;    /* all cells, once somebody went through them */
    PyObject *changed; /* before that: what was put, by place */
    bool put;
} Column;

extern PyType_Spec batch_spec, reader_spec, writer_spec, ids_spec, scanner_spec, column_spec, found_spec, bodies_spec;
extern PyTypeObject *batch_type, *scanner_type, *column_type, *found_type, *bodies_type;

/* Seeded: whoever chooses texts must not be able to choose collisions. */
uint32_t hash_of(uint64_t seed, const char *at, size_t size);

PyObject *column_new(PyObject *owner, const ColumnKind *kind, int which, size_t size);
bool column_span(PyObject *column, Py_ssize_t place, Span *span); /* false with an exception */
bool bytes_of(PyObject *item, Span *span);                        /* of a str, of bytes or of None */
/* Whether this is the column of all keys, or of all values, of a batch, and as it was read. */
bool is_column_of(PyObject *object, PyObject *batch, bool keys);

/* What a scan found in a batch: where the parts of its tickets stand, and the fields of its bodies. */
enum { IDS, CORRELATIONS, SUBJECTS, CAUSATIONS, HISTORIES, TRACEPARENTS, TRACESTATES, MACS, RESTS, LISTS };

typedef struct {
    uint16_t at, size; /* from the first header on; NOWHERE: absent */
} Place;
#define NOWHERE UINT16_MAX

typedef struct {
    Place parts[RESTS];
    int32_t unknown; /* headers that are none of ours; -1: the ticket is a suspect, and nothing here counts */
} TicketPlaces;

typedef union {
    struct {
        uint32_t at, size; /* from the body's first byte on */
    } text;
    int64_t number;
} Value;

typedef struct {
    PyObject_HEAD
    PyObject *batch;
    TicketPlaces *tickets;
    Value *values;   /* a row of `slots` for each message, once bodies were scanned */
    uint32_t *given; /* which of them a body has */
    int slots;
    uint32_t texts, numbers; /* which slots hold such */
    int64_t looks;           /* at places of tables, while words were looked up */
} Found;

extern uint64_t word_seed;
Found *found_new(PyObject *batch); /* with room for the tickets, and nothing in it yet */
bool found_room(Found *found, int slots, uint32_t texts, uint32_t numbers); /* for the fields of bodies; once */
Span ticket_span(const Found *found, int which, size_t place);
PyObject *rest_of(const Arena *arena, size_t place, int32_t unknown); /* the headers that are none of ours, verbatim */

PyObject *hash_events(PyObject *found, PyObject *arguments);
PyObject *sweep_call(PyObject *module, PyObject *arguments);

PyObject *batch_of(Arena *arena);                 /* takes the arena over, also when it fails */
PyObject *batch_make(PyObject *module, PyObject *arguments);
PyObject *header_list(const Arena *arena, size_t place); /* as the Python client gives it */
PyObject *heap_new(PyTypeObject *type);                  /* an empty object of a heap type */
void heap_free(PyObject *self);

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

#endif
