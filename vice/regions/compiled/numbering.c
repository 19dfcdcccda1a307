/* Numbering of regions, on a CPU. */
#include <stdint.h>

/* Counts (maps, bound) the pixels of each region; ids below 0 belong to none, none is too large. */
void count_pixels(const int32_t *ids, int64_t maps, int64_t pixels, int64_t bound,
                  int64_t *counts) {
    for (int64_t map = 0; map < maps; map++, ids += pixels, counts += bound)
        for (int64_t pixel = 0, run = 0; pixel < pixels; pixel++) {
            /* Runs: a counter that every pixel adds to would wait for itself each time. */
            run++;
            if (pixel + 1 < pixels && ids[pixel + 1] == ids[pixel]) continue;
            if (ids[pixel] >= 0) counts[ids[pixel]] += run;
            run = 0;
        }
}

/* Looks up (maps, bound) the row of each pixel's region; `none` where it has no region. */
void look_up_rows(const int32_t *ids, int64_t maps, int64_t pixels, int64_t bound,
                  const int32_t *rows, int32_t none, int32_t *found) {
    for (int64_t map = 0; map < maps; map++, ids += pixels, rows += bound, found += pixels)
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            found[pixel] = ids[pixel] >= 0 ? rows[ids[pixel]] : none;
}
