/* logpi: policy-gradient training in C, on a CPU. Everything. */
#ifndef LOGPI_LOGPI_H
#define LOGPI_LOGPI_H

#include <logpi/base.h>
#include <logpi/env.h>
#include <logpi/lm.h>
#include <logpi/pg.h>
#include <logpi/run.h>
#include <logpi/tensor.h>
#include <logpi/text.h>
#include <logpi/train.h>

#endif
