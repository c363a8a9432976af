/* What a sweep of the delivery-time model reads and adds up; sweep.c does the sums, sweep_call.c talks to Python. */
#ifndef AIRSIDE_SWEEP_H
#define AIRSIDE_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

enum { LEVELS = 13, SHAPES = 41, BINS = 48, HOURS = 24, VIEWS = 8, COMMONS = 11, ATOMS = LEVELS * SHAPES };
enum { FOUND = 4, MOMENTS = 7 };

/* What the curves say. Shapes are those of numpy's arrays, the last index first to move. */
typedef struct {
    const double *levels;  /* (LEVELS): logits of the mean response */
    const double *shares;  /* (LEVELS, SHAPES), logarithms */
    const double *curve;   /* (SHAPES, 48), logits */
    const double *active;  /* (SHAPES, 48) */
    const double *stated;  /* (SHAPES, 24 + 1) */
    const double *share;   /* (SHAPES), logarithms */
    const double *views;   /* (VIEWS): weights that activity may have */
    const double *commons; /* (COMMONS): shares that the first shape may have */
    double view, common;   /* those of now */
    double window, keep;   /* sends that fill one, and the share that is kept of what was before it */
    const double *changed, *doubted; /* (MOMENTS): shares of people that may have changed, and the same doubted */
    const double *likely;            /* (MOMENTS): logarithms of how likely each is */
} SweepTables;

/* Counts of all people by row, (rows, 48) each, and the hour that each asked for, or -1. */
typedef struct {
    float *sent, *answered, *activity, *recent_sent, *recent_answered, *recent_activity;
    const int8_t *preference;
    bool *changed; /* rows that are other than they were */
} SweepCounts;

/* What is added to. */
typedef struct {
    double *weight;             /* (LEVELS, SHAPES) */
    double *seen, *active;      /* (SHAPES, 48) */
    double *expected, *grip;    /* (SHAPES, 48) */
    double *preference;         /* (SHAPES, 24) */
    double *activity_all;       /* (48) */
    double *views, *commons;    /* (VIEWS), (COMMONS) */
    double *sent, *answered;    /* (1) */
    double *changes;            /* (2): who has changed, and of how many */
} SweepSums;

/* Add the people in `rows`, all of which exist. Of those whose recent window is full and who have a past, both are
 * weighed alone as well. `found` gets four numbers of each: log likelihood of all, of past and recent alone (0 where
 * they were not looked at), and whether the window is full (1) and was looked at (2).
 * `room` is memory of SWEEP_ROOM bytes, of any content; where the tables are `known`, as the last call left it. */
typedef void Sweep(const SweepTables *tables, const SweepCounts *counts, const int64_t *rows, int64_t size,
                   const SweepSums *sums, double *found, bool known, void *room);
/* The same, and move windows that are full into the past. Instead of the likelihoods of the two windows `found` has the
 * evidence of a change, and how likely there was one. */
Sweep sweep_people;
#define SWEEP_ROOM (2 << 20)

Sweep sweep_plain, sweep_fused, sweep_broad;

#endif
