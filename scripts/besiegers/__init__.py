"""Who besieges a cluster of real processes, and what is needed to see how it holds.

town       the cluster, its callers and its lines; what holds after every attack
lines      what lies between two nodes, and how it breaks
callers    puts and reads all the time, and what their answers promised
network, processes, members, strangers, doubles, disks      the adversaries
liar       a hostile member: a real node whose words are bent, by the simulator's vices
"""
