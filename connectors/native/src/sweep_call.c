/* Sweeps for Python: numpy's arrays as buffers, each checked before anything is read or written. */
#include "module.h"
#include "sweep.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TABLES = 8, COUNTS = 8, SUMS = 12, NUMBERS = 4, SHARES = 3,
       ALL = TABLES + SHARES + COUNTS + SUMS + 2 };

static const Py_ssize_t table_sizes[TABLES] = {
    LEVELS, ATOMS, SHAPES *BINS, SHAPES *BINS, SHAPES *(HOURS + 1), SHAPES, VIEWS, COMMONS,
};
static const Py_ssize_t share_sizes[SHARES] = {MOMENTS, MOMENTS, MOMENTS};
static const Py_ssize_t sum_sizes[SUMS] = {
    ATOMS, SHAPES *BINS, SHAPES *BINS, SHAPES *BINS, SHAPES *BINS, SHAPES *HOURS, BINS, VIEWS, COMMONS, 1, 1, 2,
};

typedef struct {
    Py_buffer views[ALL];
    int used;
} Buffers;

static void let_go(Buffers *buffers) {
    while (buffers->used)
        PyBuffer_Release(&buffers->views[--buffers->used]);
}

static bool is_kind(const Py_buffer *view, char kind) {
    const char *format = view->format ? view->format : "B";
    format += *format == '@' || *format == '=';
    if (!*format || format[1])
        return false;
    if (kind == 'q') /* which letter 64 bits have differs between systems */
        return view->itemsize == 8 && (*format == 'q' || *format == 'l');
    return *format == kind && view->itemsize == (kind == 'd' ? 8 : kind == 'f' ? 4 : 1);
}

/* The memory of an array of this kind; of as many numbers as `size` says, or any where it is negative. NULL with an
 * exception. */
static void *numbers_of(Buffers *buffers, PyObject *array, char kind, Py_ssize_t size, bool written) {
    Py_buffer *view = &buffers->views[buffers->used];
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0))) {
        if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            PyErr_SetString(PyExc_ValueError, "expected arrays in one piece, and sums that may be written");
        }
        return NULL;
    }
    buffers->used++;
    static double nowhere; /* of empty arrays */
    if (is_kind(view, kind) && (size < 0 || view->len == size * view->itemsize) &&
        (uintptr_t)view->buf % (uintptr_t)view->itemsize == 0)
        return view->buf ? view->buf : &nowhere;
    PyErr_Format(PyExc_ValueError, "expected an array of kind '%c' and another size or place", kind);
    return NULL;
}

static bool doubles_of(Buffers *buffers, PyObject *arrays, const Py_ssize_t *sizes, int count, bool written,
                       void **out) {
    if (PyTuple_Size(arrays) != count) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "expected another number of arrays");
        return false;
    }
    for (int n = 0; n < count; n++)
        if (!(out[n] = numbers_of(buffers, PyTuple_GetItem(arrays, n), 'd', sizes[n], written)))
            return false;
    return true;
}

/* Counts of people, and how many rows they have; false with an exception. */
static bool counts_of(Buffers *buffers, PyObject *arrays, void **out, Py_ssize_t *rows) {
    if (PyTuple_Size(arrays) != COUNTS) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "expected another number of counts");
        return false;
    }
    if (!(out[COUNTS - 1] = numbers_of(buffers, PyTuple_GetItem(arrays, COUNTS - 1), '?', -1, true)))
        return false;
    *rows = buffers->views[buffers->used - 1].len;
    if (!(out[COUNTS - 2] = numbers_of(buffers, PyTuple_GetItem(arrays, COUNTS - 2), 'b', *rows, false)))
        return false;
    if (*rows > PY_SSIZE_T_MAX / (BINS * 8)) {
        PyErr_SetString(PyExc_ValueError, "expected fewer people");
        return false;
    }
    for (int n = 0; n < COUNTS - 2; n++)
        if (!(out[n] = numbers_of(buffers, PyTuple_GetItem(arrays, n), 'f', *rows * BINS, true)))
            return false;
    return true;
}

/* A copy, since others could write the array while nobody holds the interpreter's lock. NULL with an exception. */
static int64_t *rows_of(const int64_t *given, Py_ssize_t size, Py_ssize_t people) {
    int64_t *rows = malloc((size_t)(size ? size : 1) * sizeof *rows);
    if (!rows)
        return (int64_t *)(void *)PyErr_NoMemory();
    memcpy(rows, given, (size_t)size * sizeof *rows);
    for (Py_ssize_t n = 0; n < size; n++)
        if (rows[n] < 0 || rows[n] >= people) {
            free(rows);
            PyErr_SetString(PyExc_ValueError, "expected rows of people");
            return NULL;
        }
    return rows;
}

/* Memory of the last call: a new piece would be handed over by the system page by page. It still has the tables of that
 * call, which are held here, so that nothing else can have their address. */
static struct {
    void *room;
    PyObject *tables;
} spare;

static void *new_room(void) {
    void *room;
    if (posix_memalign(&room, SWEEP_ROOM, SWEEP_ROOM))
        return PyErr_NoMemory();
#ifdef MADV_HUGEPAGE
    madvise(room, SWEEP_ROOM, MADV_HUGEPAGE); /* one page, where 500 are more than a processor remembers */
#endif
    return room;
}

static bool take_room(PyObject *tables, void **room, bool *known) {
    *room = spare.room;
    *known = spare.room && spare.tables == tables;
    spare.room = NULL; /* another thread may call meanwhile, and then has its own */
    if (!*room)
        *room = new_room();
    return *room;
}

static void give_room(PyObject *tables, void *room) {
    if (spare.room) {
        free(room);
        return;
    }
    PyObject *before = spare.tables;
    spare.room = room;
    spare.tables = Py_NewRef(tables);
    Py_XDECREF(before);
}

static bool run(Buffers *buffers, PyObject *const *given, const double *numbers) {
    void *tables[TABLES], *shares[SHARES], *counts[COUNTS], *sums[SUMS];
    Py_ssize_t people;
    if (!doubles_of(buffers, given[0], table_sizes, TABLES, false, tables) ||
        !doubles_of(buffers, given[1], share_sizes, SHARES, false, shares) ||
        !counts_of(buffers, given[2], counts, &people) ||
        !doubles_of(buffers, given[4], sum_sizes, SUMS, true, sums))
        return false;
    const int64_t *asked = numbers_of(buffers, given[3], 'q', -1, false);
    if (!asked)
        return false;
    Py_ssize_t size = buffers->views[buffers->used - 1].len / (Py_ssize_t)sizeof *asked;
    double *found = numbers_of(buffers, given[5], 'd', size * FOUND, true);
    if (!found)
        return false;
    int64_t *rows = rows_of(asked, size, people);
    void *room;
    bool known, fine = rows && take_room(given[0], &room, &known);
    if (fine) {
        const SweepTables table = {tables[0], tables[1], tables[2], tables[3], tables[4],
                                   tables[5], tables[6], tables[7], numbers[0], numbers[1],
                                   numbers[2], numbers[3], shares[0], shares[1], shares[2]};
        const SweepCounts count = {counts[0], counts[1], counts[2], counts[3], counts[4], counts[5], counts[6],
                                   counts[7]};
        const SweepSums sum = {sums[0], sums[1], sums[2], sums[3], sums[4], sums[5],
                               sums[6], sums[7], sums[8], sums[9], sums[10], sums[11]};
        Py_BEGIN_ALLOW_THREADS
        sweep_people(&table, &count, rows, size, &sum, found, known, room);
        Py_END_ALLOW_THREADS
        give_room(given[0], room);
    }
    free(rows);
    return fine;
}

PyObject *sweep_call(PyObject *module, PyObject *arguments) {
    PyObject *given[6];
    double numbers[NUMBERS];
    Buffers buffers = {.used = 0};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "O!(dddd)O!O!OO!O", &PyTuple_Type, &given[0], &numbers[0], &numbers[1], &numbers[2],
                          &numbers[3], &PyTuple_Type, &given[1], &PyTuple_Type, &given[2], &given[3], &PyTuple_Type,
                          &given[4], &given[5]))
        return NULL;
    bool fine = run(&buffers, given, numbers);
    let_go(&buffers);
    return fine ? Py_NewRef(Py_None) : NULL;
}
