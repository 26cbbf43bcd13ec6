/* The two halves of lesson 12. */
#ifndef LESSON_12_H
#define LESSON_12_H

#include "lessons.h"

double lesson_normal_density(double x, double mean, double width);
void lesson_baselines(lesson* l);
void lesson_fisher(lesson* l);
void lesson_cramer_rao(lesson* l);

#endif
