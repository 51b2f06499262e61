/* The rule of the ledger for an exhaustive check: four peers, one of them a liar, a gateway that signs what it likes.

   spin -a ledger.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan -m100000

   Peers 0, 1, 2 are honest; the fourth lies: it signs every vote and every freeze that helps. The gateway may sign, at
   each height of each incarnation, either of two histories, 1 or 2, and show each peer whichever it likes, as often as
   it likes, in any order: the network adds nothing that this does not do already. A peer stores, then says; a power cut
   between the two forgets what was not stored and says nothing that was not. History 2 at height 1 continues history 2
   at height 0, and so on: a fork begins where a peer first votes.

   Checked after every step:
     one history  no two certificates (3 of 4 votes) for different histories of an incarnation, at whatever heights
     one vote     an honest peer never says two votes at a height of an incarnation
     closed       once 3 of 4 have frozen an incarnation, it has no certificate but for a block that, of any 3 of 4, one
                  had voted for when it froze: a closing certificate knows of everything that is ever final
     in order     no honest peer votes in an incarnation before the one below it is closed

   With -DMUTANT=n the rule is broken in one place, and a check must fail:
     1 quorum of 2   2 the vote is said before it is stored   3 any start is accepted   4 no freeze on two histories
     5 a frozen peer goes on voting

   A step is one write to a disk or one message. Two states that differ only in which honest peer is which are one:
   after each step the peers are put in order, for nothing above tells them apart.                                  */

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

/* What one peer has stored and said, in one number: six bits for each height of each incarnation, then its freezes.
     stored  two bits, the history that its disk says it voted for, 0 for none
     said    a bit for each history
     stated  two bits, what was stored when it froze
     frozen  two bits, 1 stored, 2 said */
#define PLACE(i, h) (6 * ((i) * HEIGHTS + (h)))
#define STORED(p, i, h) ((peer[p] >> PLACE(i, h)) & 3)
#define SAID(p, i, h, v) ((peer[p] >> (PLACE(i, h) + 1 + (v))) & 1)
#define STATED(p, i, h) ((peer[p] >> (PLACE(i, h) + 4)) & 3)
#define ICE(i) (6 * INCARNATIONS * HEIGHTS + 2 * (i))
#define FROZEN(p, i) ((peer[p] >> ICE(i)) & 3)

int peer[HONEST];

/* the liar votes for everything, and has frozen everything */
#define VOTES(i, h, v) (1 + SAID(0, i, h, v) + SAID(1, i, h, v) + SAID(2, i, h, v))
#define CERTIFIED(i, h, v) (VOTES(i, h, v) >= QUORUM)
#define CLOSED(i) (1 + (FROZEN(0, i) == 2) + (FROZEN(1, i) == 2) + (FROZEN(2, i) == 2) >= 3)

/* these two honest peers have frozen, and neither had voted for that */
#define UNKNOWN(p, q, i, h, v) \
    (FROZEN(p, i) == 2 && FROZEN(q, i) == 2 && STATED(p, i, h) != (v) && STATED(q, i, h) != (v))

hidden byte one, level, finals;
hidden int spare;

#define KNOWN(i, h, v) (!UNKNOWN(0, 1, i, h, v) && !UNKNOWN(0, 2, i, h, v) && !UNKNOWN(1, 2, i, h, v))
#define ONE_VOTE(p, i, h) (!(SAID(p, i, h, 1) && SAID(p, i, h, 2)))

inline check() {
    d_step {
        one = 0;
        do
        :: one < INCARNATIONS ->
            level = 0; finals = 0;
            do
            :: level < HEIGHTS ->
                assert(ONE_VOTE(0, one, level) && ONE_VOTE(1, one, level) && ONE_VOTE(2, one, level)); /* one vote */
                assert(!CERTIFIED(one, level, 1) || KNOWN(one, level, 1));                              /* closed */
                assert(!CERTIFIED(one, level, 2) || KNOWN(one, level, 2));
                finals = finals | CERTIFIED(one, level, 1) | (CERTIFIED(one, level, 2) << 1);
                level++
            :: else -> break
            od;
            assert(finals != 3);                                                                        /* one history */
            one++
        :: else -> break
        od;
        one = 0; level = 0; finals = 0
    }
}

#define SWAP(p, q) if :: peer[p] > peer[q] -> spare = peer[p]; peer[p] = peer[q]; peer[q] = spare :: else fi

inline freeze() {
    peer[me] = peer[me] | (1 << ICE(incarnation));
    height = 0;
    do
    :: height < HEIGHTS ->
        peer[me] = peer[me] | (STORED(me, incarnation, height) << (PLACE(incarnation, height) + 4));
        height++
    :: else -> break
    od
}

inline sort() { d_step { SWAP(0, 1); SWAP(1, 2); SWAP(0, 1); spare = 0 } }

active proctype world() {
    byte me, incarnation, height, history;
    do
    :: atomic {
        select(me : 0 .. HONEST - 1);
        select(incarnation : 0 .. INCARNATIONS - 1);
        if
        :: /* a peer is shown a proposal, and stores that it votes for it, or that the gateway signed two histories */
            select(height : 0 .. HEIGHTS - 1);
            select(history : 1 .. 2);
            if
            :: incarnation > 0 && !CLOSED(incarnation - 1) -> goto next                  /* needs the closing */
            :: else
            fi;
#if MUTANT != 5
            if
            :: FROZEN(me, incarnation) -> goto next
            :: else
            fi;
#endif
#if MUTANT == 4
            peer[me] = peer[me] & ~(3 << PLACE(incarnation, height));
#else
            if
            :: STORED(me, incarnation, height) == history -> goto next                   /* the same again */
            :: STORED(me, incarnation, height) != 0 -> goto conflict                     /* both are kept */
            :: else
            fi;
#endif
#if MUTANT != 3
            if /* it continues what this peer voted for */
            :: height > 0 && STORED(me, incarnation, height - 1) == 0 -> goto next       /* behind */
            :: height > 0 && STORED(me, incarnation, height - 1) != history -> goto conflict
            :: else
            fi;
#endif
#if MUTANT == 2
            peer[me] = peer[me] | (2 << (PLACE(incarnation, height) + history));
            if
            :: skip
            :: goto next /* a power cut */
            fi;
#endif
            peer[me] = peer[me] | (history << PLACE(incarnation, height));
            goto next;
conflict:
            if
            :: FROZEN(me, incarnation) == 0 -> freeze()
            :: else
            fi
        :: /* a peer says a vote that it has stored: at once, or when it is shown the same again, or after a power cut */
            select(height : 0 .. HEIGHTS - 1);
            history = STORED(me, incarnation, height);
            if
            :: history == 0 -> goto next
            :: else
            fi;
#if MUTANT != 5
            if
            :: FROZEN(me, incarnation) -> goto next
            :: else
            fi;
#endif
            assert(incarnation == 0 || CLOSED(incarnation - 1));                         /* in order */
            peer[me] = peer[me] | (2 << (PLACE(incarnation, height) + history))
        :: /* the recovery key asks for a freeze, or the epoch ends: a peer stores that, and then says it */
            if
            :: FROZEN(me, incarnation) == 0 -> freeze()
            :: FROZEN(me, incarnation) == 1 -> peer[me] = peer[me] ^ (3 << ICE(incarnation))
            :: else
            fi
        fi;
next:
        me = 0; incarnation = 0; height = 0; history = 0; /* what was looked at is no part of the state */
        check();
        sort()
    }
    od
}
