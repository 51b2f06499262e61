/* The rule of the ledger for an exhaustive check: four peers, one of them a liar, a gateway that signs what it likes.

   spin -a ledger.pml && cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m100000

   Peers 0, 1, 2 are honest; the fourth lies: it signs every vote and every freeze that helps. The gateway may sign, at
   each height of each incarnation, either of two histories, 1 or 2, and show each peer whichever it likes, as often as
   it likes, in any order: the network adds nothing that this does not do already. A peer stores, then says; a power cut
   between the two forgets what was not stored and says nothing that was not. History 2 at height 1 continues history 2
   at height 0, and so on: a fork begins where a peer first votes.

   Checked after every step:
     one history  no two certificates (3 of 4 votes) for different histories of an incarnation, at whatever heights
     one vote     an honest peer never says two votes at a height of an incarnation
     closed       once 3 of 4 have frozen an incarnation, no certificate of it appears but for a block below the tip that
                  one of them stated when it froze: the closing certificate knows of everything that is ever final
     in order     no honest peer votes in an incarnation before the one below it is closed

   With -DMUTANT=n the rule is broken in one place, and a check must fail:
     1 quorum of 2   2 the vote is said before it is stored   3 any start is accepted   4 no freeze on two histories
     5 a frozen peer goes on voting                                                                                  */

#ifndef MUTANT
#define MUTANT 0
#endif
#define HONEST 3
#ifndef HEIGHTS
#define HEIGHTS 2
#endif
#ifndef INCARNATIONS
#define INCARNATIONS 1
#endif
#if MUTANT == 1
#define QUORUM 2
#else
#define QUORUM 3
#endif

#define AT(peer, incarnation, height) ((peer) * INCARNATIONS * HEIGHTS + (incarnation) * HEIGHTS + (height))
#define PLACE(incarnation, height, history) (((incarnation) * HEIGHTS + (height)) * 2 + (history) - 1)

byte stored[12];        /* the history that a peer's disk says it voted for, 0 for none */
bit said1[12], said2[12]; /* what the world has heard of it: a vote for history 1, for history 2 */
byte frozen[6];         /* by peer and incarnation: 1 stored, 2 said */
bit certified[8];       /* by place: a certificate has been seen */
bit closed[INCARNATIONS];

/* somebody honest who has frozen this incarnation had voted for that */
#define KNEW(p, i, h, v) (frozen[(p) * INCARNATIONS + (i)] == 2 && stored[AT(p, i, h)] == (v))
#define KNOWN(i, h, v) (KNEW(0, i, h, v) || KNEW(1, i, h, v) || KNEW(2, i, h, v))

inline count(incarnation, height) {
    d_step {
        votes1 = 1; votes2 = 1; p = 0; /* the liar's */
        do
        :: p < HONEST ->
            votes1 = votes1 + said1[AT(p, incarnation, height)];
            votes2 = votes2 + said2[AT(p, incarnation, height)];
            p++
        :: else -> break
        od;
        if
        :: votes1 >= QUORUM && !certified[PLACE(incarnation, height, 1)] ->
            assert(!closed[incarnation] || KNOWN(incarnation, height, 1));  /* closed */
            certified[PLACE(incarnation, height, 1)] = 1
        :: else
        fi;
        if
        :: votes2 >= QUORUM && !certified[PLACE(incarnation, height, 2)] ->
            assert(!closed[incarnation] || KNOWN(incarnation, height, 2));
            certified[PLACE(incarnation, height, 2)] = 1
        :: else
        fi;
        p = 0; votes1 = 0; votes2 = 0;
        do
        :: p < HEIGHTS ->
            votes1 = votes1 + certified[PLACE(incarnation, p, 1)];
            votes2 = votes2 + certified[PLACE(incarnation, p, 2)];
            p++
        :: else -> break
        od;
        assert(!(votes1 && votes2)); /* one history */
        p = 0; votes1 = 0; votes2 = 0
    }
}

inline close(incarnation) {
    d_step {
        votes1 = 1; p = 0; /* the liar's */
        do
        :: p < HONEST -> votes1 = votes1 + (frozen[p * INCARNATIONS + incarnation] == 2); p++
        :: else -> break
        od;
        if
        :: votes1 >= 3 -> closed[incarnation] = 1
        :: else
        fi;
        p = 0; votes1 = 0
    }
}

active [HONEST] proctype peer() {
    byte me = _pid, incarnation, height, history = 1, p, votes1, votes2;
    do
    :: /* a proposal: any incarnation, height, history */
        atomic {
            select(incarnation : 0 .. INCARNATIONS - 1);
            select(height : 0 .. HEIGHTS - 1);
            select(history : 1 .. 2);
            if
            :: incarnation > 0 && !closed[incarnation - 1] -> goto next   /* needs the closing certificate */
            :: else
            fi;
#if MUTANT != 5
            if
            :: frozen[me * INCARNATIONS + incarnation] -> goto next
            :: else
            fi;
#endif
            if
            :: stored[AT(me, incarnation, height)] == history -> goto say  /* the same vote again */
            :: stored[AT(me, incarnation, height)] != 0 ->
#if MUTANT == 4
                goto vote
#else
                frozen[me * INCARNATIONS + incarnation] = 1; goto next     /* two histories: kept, and frozen */
#endif
            :: else
            fi;
#if MUTANT != 3
            if /* it continues what this peer voted for */
            :: height > 0 && stored[AT(me, incarnation, height - 1)] == 0 -> goto next           /* behind */
            :: height > 0 && stored[AT(me, incarnation, height - 1)] != history ->
                frozen[me * INCARNATIONS + incarnation] = 1; goto next
            :: else
            fi;
#endif
        }
vote:
#if MUTANT == 2
        atomic { if :: history == 1 -> said1[AT(me, incarnation, height)] = 1 :: else -> said2[AT(me, incarnation, height)] = 1 fi; count(incarnation, height) }
        if
        :: stored[AT(me, incarnation, height)] = history
        :: goto next /* a power cut */
        fi;
#else
        stored[AT(me, incarnation, height)] = history;
        if
        :: skip
        :: goto next /* a power cut: stored, not said; it may be said later */
        fi;
#endif
say:
        atomic {
            assert(incarnation == 0 || closed[incarnation - 1]);                                  /* in order */
            if
            :: stored[AT(me, incarnation, height)] == 1 -> said1[AT(me, incarnation, height)] = 1
            :: stored[AT(me, incarnation, height)] == 2 -> said2[AT(me, incarnation, height)] = 1
            :: else
            fi;
            assert(!(said1[AT(me, incarnation, height)] && said2[AT(me, incarnation, height)]));  /* one vote */
            count(incarnation, height)
        }
    :: /* the recovery key asks for a freeze, or the epoch ends */
        atomic {
            select(incarnation : 0 .. INCARNATIONS - 1);
            if
            :: frozen[me * INCARNATIONS + incarnation] == 0 -> frozen[me * INCARNATIONS + incarnation] = 1
            :: frozen[me * INCARNATIONS + incarnation] == 1 -> frozen[me * INCARNATIONS + incarnation] = 2; close(incarnation)
            :: else
            fi
        }
next:
        atomic { incarnation = 0; height = 0; history = 1 } /* what was looked at is no part of the state */
    od
}
