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

extern PyType_Spec batch_spec, reader_spec, writer_spec, ids_spec, scanner_spec;
extern PyTypeObject *batch_type, *scanner_type;

PyObject *batch_of(Arena *arena);                 /* takes the arena over, also when it fails */
PyObject *batch_make(PyObject *module, PyObject *arguments);
PyObject *header_list(const Arena *arena, size_t place); /* as the Python client gives it */
PyObject *heap_new(PyTypeObject *type);                  /* an empty object of a heap type */
void heap_free(PyObject *self);

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

#endif
