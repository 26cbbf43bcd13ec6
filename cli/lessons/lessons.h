/* The twelve lessons, for the table. */
#ifndef LESSONS_H
#define LESSONS_H

#include "lesson.h"

lp_status lesson_descent(lesson* l);
lp_status lesson_theorem(lesson* l);
lp_status lesson_stochastic(lesson* l);
lp_status lesson_loss_and_reward(lesson* l);
lp_status lesson_logistic(lesson* l);
lp_status lesson_softmax(lesson* l);
lp_status lesson_chain_rule(lesson* l);
lp_status lesson_grad_log_p(lesson* l);
lp_status lesson_side_by_side(lesson* l);
lp_status lesson_log_derivative(lesson* l);
lp_status lesson_density(lesson* l);
lp_status lesson_expectation(lesson* l);

#endif
